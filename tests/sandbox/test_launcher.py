"""A launcher that somebody has taken over, the one inside the jail or the one outside: what it tries
to reach, and what it tells the monitor.

A launcher is only ever spoken to by the monitor, so this is about what is left if even that has
failed. When it dies, the monitor stops, and everything with it; each attempt that is not refused has
a daemon of its own.
"""


import re

import arena
import attempts
import case
import harness
import nameservice
import proc
from case import SandboxCase
from protocol import OK
from waiting import wait_for

USERS = "unix:passwd.byname"
# Its work: it starts processes, and executes what it has; its children have limits that it has not.
WORK = {"fork", "clone3", "clone_sibling", "clone_namespace", "execute_descriptor", "raise_limits"}
# Outside of the jail there is no Landlock, as what it starts has libraries to open; and what is
# denied to agents beyond the launcher's list, they deny themselves.
OUTSIDE = {"execute", "execute_itself", "execute_memory", "create_unnamed"}
AGENTS_OWN = {"outlive_monitor", "dumpable", "memory_file"}
# Behind the filter nothing is between it and what it has started, nor new namespaces, nor keys.
FILTER_ALONE = {"kill_sibling", "kill_thread", "pidfd_sibling", "limits_of_sibling", "unshare_user"}
FILTER_ALONE |= {"unshare_network", "keyctl", "add_key", "request_key", "io_uring"}
# Of those that its filter kills, one of each kind: each costs a daemon, and the list is the agents'.
KINDS = {"trace_sibling", "write_sibling", "kill_monitor", "kill_sibling", "pidfd_sibling_descriptor"}
KINDS |= {"limits_of_sibling", "become_root", "take_capabilities", "change_root", "mount", "mount_anew"}
KINDS |= {"unshare_user", "enter_namespace", "keyctl", "bpf", "io_uring", "kernel_module", "x32", "i386"}
KINDS |= {"change_mode", "shared_memory", "code_map", "personality"}
STOPPED = 70


class LauncherCase(SandboxCase):
    """Orders to a launcher; `side` is jail or agents."""

    side = "jail"
    bare = False
    orders = 0

    @classmethod
    def setUpClass(cls):
        cls.known = cls.targets()
        cls.place = None
        cls.addClassCleanup(lambda: cls.place and cls.place.stop())

    @classmethod
    def living(cls):
        """A daemon that serves. For the agents' launcher an agent is killed each time, and after a
        few the next would come after a longer while: then it is a new daemon."""
        if cls.place is not None and cls.side == "agents" and cls.orders >= 3:
            cls.place.stop()
            cls.place = None
        cls.orders += 1
        if cls.place is None:
            cls.orders = 1
            cls.place = arena.Arena(
                "jailmap-launcher", bare=cls.bare, tables=[USERS], wrap=nameservice.switched()
            )
            cls.place.daemon.wait_roles("agent")
        return cls.place

    def attempt(self, order):
        """Gives an order, and has the monitor ask the launcher for something. Returns what came of
        it: the report, or how it died."""
        place = self.living()
        place.bystander.served()
        sibling = place.worker_of(arena.BYSTANDER)
        below, mark = proc.snapshot(place.pid), place.daemon.mark()
        launcher = place.titled(f"jailmap-launcher: {self.side}")
        place.mailbox.post(self.side, order.format(**case.words_for(place, self.known, sibling)))
        uid = place.uid()
        if self.side == "agents":
            harness.kill(place.titled("jailmap-agent-nss"))
        else:
            asker = place.daemon.client(uid=uid, greeting=False)
        wait_for(lambda: place.mailbox.report() or not proc.alive(launcher), "the attempt")
        report = place.mailbox.report()
        if report and (report == "EPERM" or not order.startswith(LAST_WORDS)):
            if self.side == "jail":
                asker.receive()
                self.assertEqual(asker.lookup(place.table, "key"), (OK, b"own"))
                asker.close()
            place.vital()
            return report
        return self.ended(place, launcher, mark, below)

    def ended(self, place, launcher, mark, below):
        """The monitor stops, says why, and nobody is left."""
        place.bystander.ended.set()
        type(self).place = None
        code = harness.wait_exit(place.daemon.process, "the monitor to stop")
        place.daemon.process = None
        case.wait_nobody(below)
        self.assertEqual(code, STOPPED)
        match = re.search(rf"pid {launcher} died: (.*); without it", place.daemon.log(mark))
        self.assertTrue(match, place.daemon.log(mark))
        return match.group(1)


LAST_WORDS = ("malformed", "started", "ready", "flood", "hang_up")


class JailTest(LauncherCase):
    """The launcher in the jail, as it is."""


class AgentsTest(LauncherCase):
    """The launcher outside, as it is."""

    side = "agents"


class BareJailTest(LauncherCase):
    """The launcher in the jail without its filter: namespaces, Landlock, user."""

    bare = True


def add_system():
    for one in attempts.SYSTEM:
        if one.only is not None or one.name in WORK:
            continue
        kills = one.agent is not None and "SIGSYS" in one.agent
        jail = one.bare | attempts.KILLED | {"unknown"} if one.bare else None
        outside = one.agent if one.name not in OUTSIDE | AGENTS_OWN else None
        bare = one.bare if one.name not in FILTER_ALONE else None
        for target, allowed, who, prefix in (
            (JailTest, jail, "A launcher that was taken over", "jail_"),
            (AgentsTest, outside, "The agents' launcher, taken over,", "agents_"),
            (BareJailTest, bare or None, "A launcher without its filter", "bare_"),
        ):
            if allowed is None or (prefix != "bare_" and kills and one.name not in KINDS):
                continue

            def test(self, one=one, allowed=allowed):
                self.stopped(self.attempt(one.order), allowed)

            walls = " or ".join(sorted(allowed - {"unknown"}))
            test.__doc__ = f"{who} {one.does}; stopped by {walls}."
            setattr(target, f"test_{prefix}{one.name}", test)


class LiesTest(LauncherCase):
    """What a launcher says, and does not say."""

    def check(self, order, reason):
        how = self.attempt(order)
        self.outcome = f"the monitor stops: {how}"
        if how == "EPERM":
            self.outcome = f"refused by the kernel: {how}"
        self.assertRegex(how, reason)

    def test_other_child(self):
        """A launcher says that the worker which it is to start is one that there is; the monitor
        stops."""
        self.check("started_as {sibling}", "not what was asked for")

    def test_foreign_process(self):
        """A launcher says that the worker which it is to start is a foreign process, which the
        monitor would end one day; the monitor stops."""
        self.check("started_as {process}", "not what was asked for")
        self.assertTrue(proc.alive(self.known["process"]))

    def test_monitor_itself(self):
        """A launcher says that the worker which it is to start is the monitor; the monitor stops."""
        self.check("started_as {monitor}", "not what was asked for")

    def test_numbers(self):
        """A launcher says that it has started process 0, 1, or one of a negative number; the monitor
        stops each time."""
        for pid in (0, 1, 4294967295):
            with self.subTest(pid=pid):
                self.check(f"started_as {pid}", "not what was asked for")

    def test_unasked(self):
        """A launcher tells of a process that nobody has asked for; the monitor stops."""
        self.check("started_unasked {sibling}", "not what was asked for")

    def test_ready_again(self):
        """A launcher says once more that it is ready; the monitor stops."""
        self.check("ready_again", "message out of state")

    def test_flood(self):
        """A launcher tells of processes without end; the monitor stops."""
        self.check("flood 22 0 0", "not what was asked for|floods|too long|too short")

    def test_stalls(self):
        """A launcher does nothing any more; who is served is served on, and newcomers wait."""
        place = self.living()
        launcher = place.titled("jailmap-launcher: jail")
        below, mark = proc.snapshot(place.pid), place.daemon.mark()
        place.mailbox.post("jail", "stall")
        with place.daemon.client(uid=place.uid(), greeting=False):
            wait_for(lambda: place.mailbox.page[0:1] == b"\0", "the launcher to take the order")
            place.vital()
        harness.kill(launcher)
        self.outcome = "the monitor stops: " + self.ended(place, launcher, mark, below)

    def test_killed(self):
        """A launcher that is killed takes the monitor and everything with it, and the log says
        so."""
        place = self.living()
        launcher = place.titled("jailmap-launcher: agents")
        below, mark = proc.snapshot(place.pid), place.daemon.mark()
        harness.kill(launcher)
        self.outcome = "the monitor stops: " + self.ended(place, launcher, mark, below)


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_LAUNCHER"):
        if name.startswith("ready"):
            continue

        def test(self, order=order, reason=reason):
            self.check(order, reason)

        test.__doc__ = f"A launcher that was taken over sends {what}; the monitor stops."
        setattr(LiesTest, f"test_{name}", test)


add_system()
add_messages()

