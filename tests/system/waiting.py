"""Waiting for conditions, and nothing else: no test depends on how long something takes.

Used by every other module of the system tests; touches nothing.
"""

import time

# How long a condition may take before the test gives up. It bounds a hang; no test depends on it.
LIMIT = 90.0


class Hung(AssertionError):
    """A condition did not come true within the limit."""


def wait_for(condition, what, limit=LIMIT):
    """Returns condition() as soon as it is true; raises Hung naming `what` (text or function) if it
    never is."""
    end = time.monotonic() + limit
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Hung("waited in vain for " + (what() if callable(what) else what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
