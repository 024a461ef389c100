"""A scribe that what it writes has taken over: what it tries to reach, and what it tells the
monitor.

The name of a table that is denied is in the log, and with it the order. A scribe that dies is
followed by another after a second, so the attempts take turns among several daemons.
"""

import itertools

import case
import harness
from case import SandboxCase, add_system_tests
from protocol import DENY
from waiting import wait_for

DAEMONS = 10


class ScribeCase(SandboxCase):
    """Orders to scribes, by turns."""

    bare = False

    @classmethod
    def setUpClass(cls):
        known = cls.targets()
        cls.places = []
        for _ in range(DAEMONS):
            place = cls.arena("jailmap-scribe", bare=cls.bare)
            sibling = place.daemon.wait_roles("worker")[0]
            cls.places.append((place, case.words_for(place, known, sibling)))
        cls.turns = itertools.cycle(cls.places)

    def order(self, text, look=None):
        """Gives an order to the next scribe. Returns (place, what came of it)."""
        place, words = next(self.turns)
        place.bystander.served()
        pid = wait_for(lambda: place.titled("jailmap-scribe"), "a scribe")
        mark = place.daemon.mark()
        order = text.format(**words)
        self.assertEqual(place.regular().open(f"hash:attack:{order};")[0], DENY)
        place.bystander.served()
        outcome = look(place, pid, mark) if look else self.reported(place, pid, mark)
        place.vital()
        return place, outcome

    @staticmethod
    def reported(place, pid, mark):
        """Its report, or how it died, as the next one writes."""
        line = rf"scribe reports: (.*)|scribe pid {pid} died: (.*); lines in its hands"
        match = place.daemon.wait_log(line, since=mark)
        return match.group(1) or match.group(2)

    def attempt(self, one):
        return self.order(one.order)[1]

    def ended(self, order, reason):
        """An order after which the monitor must end the scribe, for that reason."""

        def look(place, pid, mark):
            line = rf"scribe pid {pid} died: (.*); lines"
            if case.REFUSED in reason:
                line += r"|scribe reports: (EPERM)"
            match = place.daemon.wait_log(line, since=mark)
            if match.group(1) is None:
                return match.group(2)
            case.wait_gone(pid)
            return match.group(1)

        _, how = self.order(order, look)
        self.outcome = f"ended by the monitor: {how}"
        if how == "EPERM":
            self.outcome = f"refused by the kernel: {how}"
        self.assertRegex(how, reason)


@add_system_tests("scribe", "A scribe that was taken over", bare=False)
class FilteredTest(ScribeCase):
    """System calls of a scribe as it is."""


@add_system_tests("scribe", "A scribe without its filter", bare=True)
class BareTest(ScribeCase):
    """The walls behind the filter."""

    bare = True


class LiesTest(ScribeCase):
    """Messages that are malformed, too many, or none."""

    def test_no_message(self):
        """A scribe sends a packet of no bytes, which is the end, and stays; the monitor ends it."""
        self.ended("malformed 10 empty stay", "did not end in time")

    def test_hang_up(self):
        """A scribe closes its bridge, and stays; the monitor ends it."""
        self.ended("hang_up", "did not end in time")

    def test_flood(self):
        """A scribe asks for a new log socket without end; the monitor ends it."""
        self.ended("flood 10 0 0", "floods the monitor")

    def test_stalls(self):
        """A scribe reads nothing any more while the log goes on; everybody is served, the monitor
        does not grow, and counts what was lost."""

        def look(place, pid, mark):
            clients = [place.attacker()[0] for _ in range(20)]
            for turn in range(60):
                for number, client in enumerate(clients):
                    client.open(f"hash:/lost/{turn}/{number}")
            place.vital()
            harness.kill(pid)
            for client in clients:
                client.close()
            case.wait_gone(pid)
            return place.daemon.wait_log(rf"scribe pid {pid} died: (.*)", since=mark).group(1)

        _, self.outcome = self.order("stall", look)

    def test_bystanders_log(self):
        """After all that the log goes on: what a client is denied is in it."""
        place = self.places[0][0]
        mark = place.daemon.mark()
        client, uid = place.attacker()
        with client:
            client.open("hash:/in/the/log")
        place.daemon.wait_log(rf"denied table .hash:/in/the/log. to uid {uid} ", since=mark)


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_SCRIBE"):

        def test(self, order=order, reason=reason):
            self.ended(order, reason)

        test.__doc__ = f"A scribe that was taken over sends {what}; the monitor ends it."
        setattr(LiesTest, f"test_{name}", test)


add_messages()
