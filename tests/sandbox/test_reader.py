"""A reader of the configuration that the name service has taken over: what it tries to reach, and
what it tells the monitor.

Each reload has a reader of its own, so all attempts are made in one daemon.
"""

import signal

import case
import harness
import nameservice
import proc
from case import SandboxCase, add_system_tests
from waiting import wait_for

RESULT = r"jailmapd: (?:error: )?not reloaded: (.*)"


class ReaderCase(SandboxCase):
    """Orders to readers, one after the other."""

    bare = False

    @classmethod
    def setUpClass(cls):
        known = cls.targets()
        cls.place = cls.arena(
            "jailmap-reader",
            bare=cls.bare,
            tables=("unix:passwd.byname",),
            wrap=nameservice.switched(),
        )
        sibling = cls.place.daemon.wait_roles("agent")[0]
        cls.words = case.words_for(cls.place, known, sibling)
        with open(cls.place.daemon.config, encoding="utf-8") as file:
            cls.text = file.read()

    def order(self, text):
        """Has an order carried out by a reader; returns what the log says of the reload."""
        daemon = self.place.daemon
        self.place.bystander.served()
        order = f"# attack:{text.format(**self.words)}\n"
        harness.Workspace.write(daemon.directory, "jailmapd.conf", order + self.text)
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        result = daemon.wait_log(RESULT, since=mark).group(1)
        wait_for(lambda: self.place.titled("jailmap-reader") is None, "the reader to end")
        self.place.vital()
        return result

    def attempt(self, one):
        return self.reported(one.order)

    def reported(self, order):
        """The report of the reader, or how it died."""
        result = self.order(order)
        for mark in ("reader reports: ", "its reader ended: "):
            if mark in result:
                return result.partition(mark)[2]
        raise AssertionError(result)

    def ended(self, order, reason):
        """An order after which the monitor must end the reader, for that reason."""
        how = self.reported(order)
        self.outcome = f"ended by the monitor: {how}"
        if case.REFUSED in reason and how == "EPERM":
            self.outcome = f"refused by the kernel: {how}"
        self.assertRegex(how, reason)


@add_system_tests("reader", "A reader that was taken over", bare=False)
class FilteredTest(ReaderCase):
    """System calls of a reader as it is."""


@add_system_tests("reader", "A reader without its filter", bare=True)
class BareTest(ReaderCase):
    """The walls behind the filter: user, Landlock, limits."""

    bare = True


class LiesTest(ReaderCase):
    """Messages that are malformed, or too many."""

    def test_flood(self):
        """A reader sends pieces of a policy without end; the monitor ends it, and has not grown."""
        self.ended("flood 67 0 0", "floods the monitor")

    def test_harmless(self):
        """After all that a reload without an order works."""
        daemon = self.place.daemon
        harness.Workspace.write(daemon.directory, "jailmapd.conf", self.text)
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("reloaded: nothing has changed", since=mark)
        self.assertTrue(proc.alive(daemon.pid))


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_READER"):

        def test(self, order=order, reason=reason):
            self.ended(order, reason)

        test.__doc__ = f"A reader that was taken over sends {what}; the monitor ends it."
        setattr(LiesTest, f"test_{name}", test)


add_messages()
