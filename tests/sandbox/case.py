"""What every attempt has in common: vital signs before and after it, its outcome, and the tests that
are made from the tables of attempts.py and of privsep/messages.h.

Used by test_*.py inside tests/sandbox/run. A test made here is one attempt, with a name and a
sentence of its own.
"""

import os
import re
import unittest

import arena
import attempts
import harness
import proc
from harness import REPOSITORY, workspace
from waiting import LIMIT, wait_for

# Where the monitor takes no descriptors at all, the kernel (6.16) refuses them to the sender.
REFUSED = "^EPERM"
# What the monitor says of a message that is changed so, where the message itself would be right.
MALFORMED = {
    "cut": "message shorter than its header",
    "nonzero": "message of unknown type",
    "short": "message too short",
    "long": "message (too long|over every limit)",
    "huge": "message (too long|over every limit)",
    "nine descriptors": f"unexpected control message|message over every limit|{REFUSED}",
    "hundreds of descriptors": f"unexpected control message|message over every limit|{REFUSED}",
}
FOREIGN = "message that this sender may not send"


OUT_OF_STATE = "message out of state"


def messages():
    """name -> (number, from, to, descriptors, states) of every message, from the one table where they
    are."""
    with open(os.path.join(REPOSITORY, "privsep/messages.h")) as file:
        text = file.read().replace("\\\n", " ")
    row = r"\bX\((\w+), (\d+), ([^,]+), ([^,]+), \w+,\s*[^,]+,\s*(\d+),\s*([^)]+)\)"
    rows = re.findall(row, text)
    if len(rows) < 18:
        raise AssertionError("the table of messages in privsep/messages.h cannot be read")
    return {name: (int(number), *row, int(fds), states) for name, number, *row, fds, states in rows}


def changed(fds):
    """(how a message is changed, what the monitor says of that)."""
    yield from MALFORMED.items()
    yield "another descriptor", f"wrong number|unexpected control|{REFUSED}"
    if fds > 0:
        yield "without a descriptor", "wrong number of descriptors"


def breaches(role):
    """(name, order, what is sent, reason) of everything that a child in that role may not send to
    the monitor: every message that is not its own, or not now, and its own changed in every way."""
    for name, (number, source, to, fds, states) in messages().items():
        if role not in source or "ROLE_MONITOR" not in to:
            what = f"a {name}, which is not its to send"
            why = FOREIGN if fds == 0 else f"{FOREIGN}|{REFUSED}"
            yield f"sends_{name.lower()}", f"malformed {number}", what, why
        elif "STATE_SERVE" not in states:
            what = f"a {name}, whose time it is not"
            why = OUT_OF_STATE if fds == 0 else f"{OUT_OF_STATE}|{REFUSED}"
            yield f"sends_{name.lower()}", f"malformed {number}", what, why
        else:
            for how, why in changed(fds):
                what = f"a {name} that is changed: {how}"
                yield f"{name.lower()}_{how.split()[0]}", f"malformed {number} {how}", what, why
    for number in (0, 99, 0x7FFFFFFF):
        what = f"a message of number {number}"
        yield f"unknown_{number}", f"malformed {number}", what, "message of unknown type"


class SandboxCase(unittest.TestCase):
    """A test with arenas that end with its class."""

    @classmethod
    def arena(cls, *arguments, **options):
        found = arena.Arena(*arguments, **options)
        cls.addClassCleanup(found.stop)
        return found

    @classmethod
    def targets(cls):
        """What an attacker would like to reach; filled into orders by name."""
        targets = arena.Targets()
        cls.addClassCleanup(targets.close)
        scratch = workspace().directory("scratch", mode=0o777)
        workspace().write(scratch, "file", "x")
        return {**targets.words(), "scratch": scratch}

    def stopped(self, outcome, allowed):
        """An attempt is over: was it stopped by one of those walls?"""
        self.outcome = "stopped: " + outcome[:160]
        self.assertIn(arena.outcome_of(outcome), allowed, outcome)


def inside(pid):
    """The number that a process has in its own pid namespace."""
    return int(proc.status(pid)["NSpid"].split()[-1])


def words_for(place, known, sibling):
    """What the orders of attempts.py are filled in with."""
    return {
        **known,
        "monitor": place.pid,
        "sibling": sibling,
        "inside": inside(sibling),
        "socket": place.daemon.socket,
        "runtime": place.daemon.runtime,
        "directory": place.daemon.directory,
    }


def add_system_tests(program, who, bare, prefix="", few=False):
    """A class decorator: one test for each system attempt there is for the program. The class has
    attempt(order) -> outcome, and what happens around it. prefix: of the names of the tests, where
    a file has those of several programs. few: those of attempts.FEW alone."""

    def decorate(case):
        for one in attempts.SYSTEM:
            allowed = attempts.stops(one, program, bare)
            if allowed is None or few and not one.name.startswith(attempts.FEW):
                continue

            def test(self, one=one, allowed=allowed):
                self.stopped(self.attempt(one), allowed)

            test.__doc__ = f"{who} {one.does}; stopped by {' or '.join(sorted(allowed))}."
            test.__name__ = f"test_{prefix}{'bare_' if bare else ''}{one.name}"
            setattr(case, test.__name__, test)
        return case

    return decorate


def wait_gone(pid, limit=LIMIT):
    """Waits until a process has ended."""
    wait_for(lambda: not proc.alive(pid), f"pid {pid} to end", limit)


def wait_nobody(below):
    """Waits until everything of a proc.snapshot() has ended. Orphans are this process's to collect,
    and the first of a pid namespace ends after the last."""

    def gone():
        harness.reap()
        return not proc.survivors(below)

    wait_for(gone, lambda: f"these to end: {[proc.arguments(pid) for pid in proc.survivors(below)]}")


__all__ = ["SandboxCase", "add_system_tests", "breaches", "harness", "wait_gone", "wait_nobody", "words_for"]
