"""A loader that the file which it loads has taken over: what it tries to reach, and what it tells
the monitor.

Each attempt has a table of its own, which loaded well before; so each shows too that the last good
image answers on. All files are exchanged at once, and the loads run in their turns.
"""

import os

import arena
import attempts
import case
from case import SandboxCase
from harness import Workspace, workspace
from protocol import NOKEY, OK, RETRY
from waiting import wait_for

GOOD = "key good\n"


class LoaderCase(SandboxCase):
    """Tables whose sources are orders. `plan` has (name, order, options) of each."""

    bare = False
    plan = ()

    @classmethod
    def setUpClass(cls):
        cls.directory = workspace().directory("loader-tables")
        tables = []
        for name, _, options in cls.plan:
            Workspace.write(cls.directory, name, GOOD)
            tables.append((cls.table(name), options))
        cls.place = cls.arena("jailmap-loader", bare=cls.bare, tables=tables)
        cls.client, _ = cls.place.attacker()
        cls.addClassCleanup(cls.client.close)
        for name, *_ in cls.plan:
            wait_for(lambda name=name: cls.look_up(name) == (OK, b"good"), f"{name} to be loaded")
        cls.place.before = cls.place.signs()
        cls.mark = cls.place.daemon.mark()
        sibling = cls.place.daemon.wait_roles("worker")[0]
        cls.words = case.words_for(cls.place, cls.targets(), sibling)
        for name, order, _ in cls.plan:
            text = f"attack:{order.format(**cls.words)}\n"
            Workspace.write(cls.directory, "new", text)
            os.rename(os.path.join(cls.directory, "new"), os.path.join(cls.directory, name))

    @classmethod
    def table(cls, name):
        return f"texthash:{os.path.join(cls.directory, name)}"

    @classmethod
    def look_up(cls, name, key="key"):
        return cls.client.lookup(cls.table(name), key, arena.PLAIN)

    def result(self, name):
        """Why the load failed, as the log has it. Whoever asks gets the last good image."""
        place = self.place
        place.bystander.served()
        line = rf'table "\S+/{name}" not reloaded: (.*); the image of generation 1 stays in service'
        match = place.daemon.wait_log(line, since=self.mark)
        self.assertEqual(self.look_up(name), (OK, b"good"))
        self.assertEqual(self.look_up(name, "absent"), (NOKEY, b""))
        place.vital()
        return match.group(1).removeprefix("the loader ended: ")

    def ended(self, name, reason):
        found = self.result(name)
        self.outcome = "load failed: " + found
        self.assertRegex(found, reason)


def system_plan(bare):
    return [
        (one.name, one.order, {})
        for one in attempts.SYSTEM
        if attempts.stops(one, "loader", bare) is not None
    ]


class FilteredTest(LoaderCase):
    """System calls of a loader as it is."""

    plan = system_plan(False)


class BareTest(LoaderCase):
    """The walls behind the filter."""

    bare = True
    plan = [*system_plan(True), ("eat_memory", "eat_memory", {"load-memory": 64})]

    def test_bare_memory(self):
        """A loader takes all the memory that it can get; stopped by load-memory."""
        self.stopped(self.result("eat_memory"), {"ENOMEM"})


def add_system(test_case, bare):
    for one in attempts.SYSTEM:
        allowed = attempts.stops(one, "loader", bare)
        if allowed is None:
            continue

        def test(self, one=one, allowed=allowed):
            self.stopped(self.result(one.name), allowed)

        who = "A loader without its filter" if bare else "A loader that was taken over"
        test.__doc__ = f"{who} {one.does}; stopped by {' or '.join(sorted(allowed))}."
        setattr(test_case, f"test_{'bare_' if bare else ''}{one.name}", test)


add_system(FilteredTest, False)
add_system(BareTest, True)

SHORT = {"load-time": 1}
LIES = [
    # name, order, options, what it does, the reason in the log
    ("no_message", "malformed 9 empty stay", {}, "sends a packet of no bytes and stays", "did not end in time"),
    ("hang_up", "hang_up", {}, "closes its bridge and stays", "did not end in time|killed by its sandbox"),
    ("credentials", "credentials", {}, "sends the credentials of root along", "EPERM"),
    ("loaded_twice", "loaded_twice", {}, "says twice that it has loaded", "message out of state"),
    ("failed_then_loaded", "failed_then_loaded", {}, "fails and then has loaded", "message out of state"),
    ("loaded_and_stays", "loaded_and_stays", SHORT, "has loaded and does not end", "longer than load-time"),
    ("stalls", "stall", SHORT, "does nothing for ever", "longer than load-time"),
    ("spins", "spin", SHORT, "computes for ever", "longer than load-time"),
    ("endless_image", "image_endless", {"image-size": 1}, "writes an image without end", "EFBIG"),
    ("eats_memory", "eat_memory", {"load-memory": 64}, "takes all memory that it can get", "ENOMEM"),
    ("last_words", "loaded_then_breach", {}, "has loaded, breaks a rule and ends well", "message of unknown type"),
    ("flood_failed", "flood 10 0 0", {}, "fails without end", "message out of state|floods"),
]


class LiesTest(LoaderCase):
    """Messages that are malformed, not true, or none; loads without an end."""

    plan = [
        *[(name, f"{order} stay", {}) for name, order, *_ in case.breaches("ROLE_LOADER")],
        *[(name, order, options) for name, order, options, *_ in LIES],
        ("forged_lines", "failed_with_lines", {}),
    ]

    def test_forged_lines(self):
        """A loader gives a reason of control characters and lines; each is escaped, and none begins
        a line of the log."""
        found = self.result("forged_lines")
        self.outcome = found[:60]
        log = self.place.daemon.log(self.mark)
        self.assertIn("ready: forged", log)
        self.assertNotRegex(log, r"(?m)^jailmapd: ready|\x1b")


def add_lies():
    for name, _, what, reason in case.breaches("ROLE_LOADER"):

        def test(self, name=name, reason=reason):
            self.ended(name, reason)

        test.__doc__ = f"A loader that was taken over sends {what}; the monitor ends it."
        setattr(LiesTest, f"test_{name}", test)
    for name, _, _, does, reason in LIES:

        def test(self, name=name, reason=reason):
            self.ended(name, reason)

        test.__doc__ = f"A loader {does}; the load fails, and the last good image answers on."
        setattr(LiesTest, f"test_{name}", test)


add_lies()


class ImagesTest(LoaderCase):
    """Loads that end as loads should, and leave what they should not."""

    plan = [
        ("none", "loaded 18446744073709551615 99 4294967295", {}),
        ("garbage", "image_garbage", {}),
        ("loop", "image_loop", {}),
    ]

    def served(self, name, key, allowed):
        """The image has been taken into service; what do lookups get then, and who is hurt?"""
        place = self.place
        place.daemon.wait_log(rf'table "\S+/{name}" reloaded', since=self.mark)
        client, _ = place.attacker()
        with client:
            found = client.lookup(self.table(name), key, arena.PLAIN)
            self.outcome = f"lookups get {found}"
            self.assertIn(found, allowed)
            self.assertEqual(client.lookup(place.table, "key"), (OK, b"own"))
        place.vital()

    def test_absurd_numbers(self):
        """A loader leaves no image, and numbers beyond all; its table fails, and no other."""
        self.served("none", "key", [(RETRY, b"")])

    def test_garbage(self):
        """A loader leaves an image of garbage; its table fails, and no other."""
        self.served("garbage", "key", [(RETRY, b"")])

    def test_search_without_end(self):
        """A loader leaves an image of 32 MB in which every search leads in circles; the search ends,
        and workers of other uids do not notice."""
        self.served("loop", "loop", [(NOKEY, b"")])
        self.served("loop", "key", [(NOKEY, b"")])
