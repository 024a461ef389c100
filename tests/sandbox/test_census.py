"""A census that what it is told has taken over: what it tries to reach, and what it tells the
monitor, which hears nothing from it but of limits.

The reason why a table fails is told to the census, and a link says what is in it; with it the order.
A census that dies is followed by another after a second, so the attempts take turns among several
daemons.
"""

import itertools
import os
import re
import socket

import arena
import case
from case import SandboxCase, add_system_tests
from harness import workspace
from waiting import wait_for

DAEMONS = 8
NOBODY = 54321  # a uid that no client has


def first_words(place):
    """What comes first on a new connection to the control socket; empty: nothing came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.settimeout(60)
        directory = os.open(place.daemon.runtime, os.O_PATH | os.O_DIRECTORY)
        try:
            asker.connect(f"/proc/self/fd/{directory}/control.status")
            return asker.recv(1 << 16).decode()
        except ConnectionResetError:
            return ""
        finally:
            os.close(directory)


class CensusCase(SandboxCase):
    """Orders to censuses, by turns."""

    bare = False

    @classmethod
    def setUpClass(cls):
        known = cls.targets()
        cls.places, cls.numbers = [], itertools.count(1)
        for _ in range(DAEMONS):
            table = os.path.join(workspace().directory("orders"), "order")
            place = cls.arena(
                "jailmap-census", bare=cls.bare, tables=[(f"hash:{table}", {"symlinks": "follow"})]
            )
            sibling = place.daemon.wait_roles("worker")[0]
            cls.places.append((place, table + ".db", case.words_for(place, known, sibling)))
        cls.turns = itertools.cycle(cls.places)

    def say(self, link, words):
        """The reason why the table fails has these words in it from now on, and a number."""
        os.symlink(f"{words};{next(self.numbers)}".replace("/", "^"), link + ".new")
        os.rename(link + ".new", link)

    def order(self, text, ended=False):
        """Gives an order to the next census. Returns what came of it; with `ended`, why it ended,
        unless the kernel has refused it what would be a reason."""
        place, link, words = next(self.turns)
        place.bystander.served()
        self.say(link, "nothing")
        wait_for(lambda: first_words(place).startswith("jailmap-status"), "a census")
        pid = wait_for(lambda: place.titled("jailmap-census"), "its process")
        mark = place.daemon.mark()
        self.say(link, f"attack:{text.format(**words)}")

        def outcome():
            died = re.search(rf"census pid {pid} died: (.*); what workers", place.daemon.log(mark))
            if died:
                return died.group(1)
            said = first_words(place)
            if ended and not said.startswith("census reports: EPERM"):
                return None
            return said[len("census reports: ") :] if said.startswith("census reports") else None

        found = wait_for(outcome, f"a report of the census {pid}, or its end")
        self.say(link, "nothing")
        place.vital()
        return found.strip()

    def attempt(self, one):
        return self.order(one.order)


@add_system_tests("census", "A census that was taken over", bare=False)
class FilteredTest(CensusCase):
    """System calls of a census as it is."""

    def test_lies(self):
        """A census tells of limits that nobody has reached: of a uid without a worker nothing comes
        of that, and of another one line of the log, as long as the policy says no more."""
        daemons = [place.daemon for place, _, _ in self.places]
        marks = [daemon.mark() for daemon in daemons]
        for _ in range(DAEMONS):
            self.assertEqual(self.order(f"lie {NOBODY} 1 1"), "done: 0")
        for _ in range(DAEMONS):
            self.assertEqual(self.order(f"lie {arena.BYSTANDER} 1 1"), "done: 0")
        for daemon, mark in zip(daemons, marks):
            daemon.wait_log(rf"limit reached by uid {arena.BYSTANDER}: misses-", since=mark)
        for _ in range(DAEMONS):
            self.assertEqual(self.order(f"lie {arena.BYSTANDER} 1 2"), "done: 0")
        for _ in range(DAEMONS):
            self.assertEqual(self.order(f"lie {arena.BYSTANDER} 1 4"), "done: 0")
        for daemon, mark in zip(daemons, marks):
            daemon.wait_log(rf"limit kept again by uid {arena.BYSTANDER}: misses-", since=mark)
            self.assertEqual(len(re.findall("limit ", daemon.log(mark))), 2)
        self.outcome = "one line when it begins, and one when it ends"

    def test_any_message(self):
        """A census sends the monitor a message with the call that could pass a descriptor; its
        filter does not have it."""
        self.outcome = self.order("malformed 10")
        self.assertIn("killed by its sandbox", self.outcome)


@add_system_tests("census", "A census without its filter", bare=True)
class BareTest(CensusCase):
    """The walls behind the filter."""

    bare = True

    def test_bystanders_numbers(self):
        """After all that the status is right again: the next census has what workers counted."""
        place, link, _ = self.places[0]
        self.say(link, "nothing")
        wait_for(lambda: first_words(place).startswith("jailmap-status"), "a census")
        wait_for(
            lambda: place.daemon.table_facts(place.tables["bystander"])["lookups"] > 0,
            "what the bystander has asked to be counted",
        )


    def test_no_such_limit(self):
        """A census that was taken over, without its filter, tells of a limit that there is not; the
        monitor ends it."""
        self.outcome = self.order("malformed 51", ended=True)
        self.assertIn("it speaks of a limit that there is not", self.outcome)


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_CENSUS"):

        def test(self, order=order, reason=reason):
            self.outcome = self.order(order, ended=True)
            self.assertRegex(self.outcome, reason)

        test.__doc__ = f"A census that was taken over, without its filter, sends {what}; the monitor ends it."
        setattr(BareTest, f"test_{name}", test)


add_messages()
