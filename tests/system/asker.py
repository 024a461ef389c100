"""A client that asks all the time, in a thread of its own, and remembers what it was told.

Used inside tests/system/run. It only asks; the test that starts it decides what an answer is worth.
"""

import threading
import time

from protocol import RETRY, Closed
from waiting import LIMIT, wait_for


class Asker(threading.Thread):
    """A client that asks until told to stop, reconnects when its connection is closed, and keeps
    every wrong answer.

    expected: {(table, key): (status, value)}. A temporary error is no wrong answer, but not a right
    one either.
    """

    def __init__(self, daemon, expected):
        super().__init__(daemon=True)
        self.server, self.expected = daemon, expected
        self.right, self.temporary, self.reconnects = 0, 0, -1
        self.wrong, self.retried = [], []
        self.stopping = False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                with self.server.client() as client:
                    self.reconnects += 1
                    while not self.stopping:
                        for question, answer in self.expected.items():
                            found = client.lookup(*question)
                            if found == answer:
                                self.right += 1
                            elif found[0] == RETRY:
                                self.temporary += 1
                                self.retried.append(question)
                            else:
                                self.wrong.append((question, found))
            except (Closed, OSError):
                # As a client would, so that it does not take the processor from what it waits for.
                time.sleep(0.001)
            except BaseException as error:  # a test must see it, whatever it is
                self.wrong.append(repr(error))
                return

    def progress(self, count=20):
        """Waits until this many more right answers came."""
        goal = self.right + count
        wait_for(lambda: self.right >= goal or self.wrong, "a client to get right answers again")

    def finish(self):
        self.stopping = True
        self.join(LIMIT)
        return self.wrong
