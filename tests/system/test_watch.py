"""How changes are noticed: renames, rewriting in place, links, exchanged directories, and changes
that cause no event.

What is under test is what comes to a client in the end, that the last good image answers until
then, and which directories the monitor watches. Nothing is asserted about how soon. What a path may
look like is the other subject: a link on it is followed only where the configuration says so.
"""

import ctypes
import mmap
import os
import select
import shutil
import struct

import reloading
from harness import Workspace, postmap
from protocol import OK, NOKEY, RETRY
from reloading import ReloadCase, rewrite, steady
from waiting import wait_for

# linux/inotify.h: everything that can happen to a file or its name, but for reading it.
IN_CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_libc = ctypes.CDLL(None, use_errno=True)


class Events:
    """What inotify tells of a directory: the names of files that changed."""

    def __init__(self, directory):
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or _libc.inotify_add_watch(self.fd, directory.encode(), IN_CHANGES) < 0:
            raise OSError(ctypes.get_errno(), "inotify", directory)

    def take(self):
        found = []
        while select.select([self.fd], [], [], 0)[0]:
            data = os.read(self.fd, 65536)
            while data:
                length = struct.unpack_from("I", data, 12)[0]
                found.append(data[16 : 16 + length].rstrip(b"\0").decode())
                data = data[16 + length :]
        return found

    def close(self):
        os.close(self.fd)


def switch(link, target):
    """Points a symbolic link somewhere else, in one step."""
    os.symlink(target, link + ".new")
    os.rename(link + ".new", link)


class WatchCase(ReloadCase):
    """A test that changes files and waits for what is served."""

    def becomes(self, client, table, value, before, key="key"):
        """Waits until `key` has a value; until then it has the one before it, and nothing else."""
        self.eventually(client, table, key, (OK, value.encode()), (OK, before.encode()))

    def folder(self, *names):
        path = os.path.join(self.directory, *names)
        os.makedirs(path, exist_ok=True)
        return path

    def map(self, path, text, kind="hash"):
        """Makes a table at a path; returns its name."""
        if kind == "texthash":
            Workspace.write(os.path.dirname(path), os.path.basename(path), text)
        else:
            postmap(kind, path, text)
        return f"{kind}:{path}"

    def assert_watched(self, daemon, *directories):
        """Each directory is watched by the monitor, now or soon."""
        want = {os.stat(path).st_ino: path for path in directories}
        wait_for(
            lambda: want.keys() <= reloading.watched_inodes(daemon.pid),
            lambda: "the monitor to watch "
            + " ".join(
                path
                for inode, path in want.items()
                if inode not in reloading.watched_inodes(daemon.pid)
            ),
        )

    def ways(self, path):
        """The directories on the way to a file, from / on."""
        found = []
        while path != "/":
            path = os.path.dirname(path)
            found.append(path)
        return found


class FileTest(WatchCase):
    """The file changes."""

    def test_renamed_into_place(self):
        """A new file is renamed into the place of a table of each kind, 10 times."""
        kinds = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}
        tables = {kind: self.map(self.path(kind), "key 0\n", kind) for kind in kinds}
        daemon = self.jailmapd(list(tables.values()))
        client = self.client(daemon)
        for table in tables.values():
            self.loaded(daemon, table)
        for number in range(1, 11):
            for kind, suffix in kinds.items():
                self.map(self.path("new-" + kind), f"key {number}\n", kind)
                os.rename(self.path("new-" + kind) + suffix, self.path(kind) + suffix)
            for table in tables.values():
                self.becomes(client, table, str(number), str(number - 1))
        self.assertNotIn("warning", daemon.log())
        self.assert_watched(daemon, *self.ways(self.path("hash")))

    def test_rewritten_in_place(self):
        """texthash is truncated and written as an editor does, hash, btree and lmdb by postmap, 10
        times each: no key that stays is ever missing, under load."""
        tables = {}
        for kind in ("texthash", "hash", "btree", "lmdb"):
            tables[kind] = self.map(self.path(kind), "key 0\nstays here\n", kind)
        daemon = self.jailmapd(list(tables.values()))
        client = self.client(daemon)
        for table in tables.values():
            self.loaded(daemon, table)
        stays = [((table, "stays"), (OK, b"here")) for table in tables.values()]
        reader = self.reader(daemon, lambda client: steady(client, stays))
        for number in range(1, 11):
            text = f"key {number}\nstays here\n"
            for kind, table in tables.items():
                inode = os.stat(self.path(kind)).st_ino
                if kind == "texthash":
                    rewrite(self.path(kind), text)
                else:
                    self.map(self.path(kind), text, kind)
                self.assertEqual(os.stat(self.path(kind)).st_ino, inode)
            for table in tables.values():
                self.becomes(client, table, str(number), str(number - 1))
        self.assertIsNone(reader.finish())

    def test_removed_and_made_again(self):
        """A table of each kind is removed: the last good image answers; it is made again: the new
        one does."""
        kinds = {"hash": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}
        tables = {kind: self.map(self.path(kind), "key 0\n", kind) for kind in kinds}
        daemon = self.jailmapd(list(tables.values()))
        client = self.client(daemon)
        for table in tables.values():
            self.loaded(daemon, table)
        for number in range(1, 4):
            mark = daemon.mark()
            for kind, suffix in kinds.items():
                os.unlink(self.path(kind) + suffix)
            for table in tables.values():
                reason = self.refused(daemon, table, "No such file", mark)
                self.assertIn(table.partition(":")[2], reason)
                for key, answer in (("key", (OK, b"%d" % (number - 1))), ("no", (NOKEY, b""))):
                    self.assertEqual(client.lookup(table, key), answer)
            mark = daemon.mark()
            for kind, table in tables.items():
                self.map(self.path(kind), f"key {number}\n", kind)
                self.loaded(daemon, table, mark, "recovered")
                self.becomes(client, table, str(number), str(number - 1))

    def test_without_event(self):
        """A change through a shared mapping, of which inotify tells nothing, is found by the look
        that the monitor takes from time to time."""
        table = self.map(self.path("a"), "key before\n")
        with open(self.path("a.db"), "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        self.addCleanup(memory.close)  # Not before: the end of the mapping is an event.
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.loaded(daemon, table)
        self.assertEqual(client.lookup(table, "key"), (OK, b"before"))
        events = Events(self.directory)
        self.addCleanup(events.close)
        at = memory.find(b"before")
        memory[at : at + 6] = b"after!"
        self.becomes(client, table, "after!", "before")
        self.assertEqual(events.take(), [])
        # And these would have been seen.
        os.utime(self.path("a.db"))
        self.assertEqual(events.take(), ["a.db"])

    def test_burst(self):
        """50 changes at once, by rename and in place, are few loads, and the last content is
        served."""
        hashed, text = self.map(self.path("a"), "key 0\n"), self.map(
            self.path("b"), "key 0\n", "texthash"
        )
        daemon = self.jailmapd([hashed, text])
        client = self.client(daemon)
        for table in (hashed, text):
            self.loaded(daemon, table)
        mark = daemon.mark()
        for number in range(1, 51):
            self.map(self.path(f"new{number}"), f"key {number}\n")
        for number in range(1, 51):
            os.rename(self.path(f"new{number}.db"), self.path("a.db"))
            rewrite(self.path("b"), f"key {number}\n")
        for table in (hashed, text):
            wait_for(
                lambda table=table: client.lookup(table, "key") == (OK, b"50"),
                f"the last of {table}",
            )
            found = self.generations(daemon, table, mark)
            self.assertLess(len(found), 10, daemon.log(mark))

    def test_appears(self):
        """A source that is missing at start, in directories that are missing too, is served once it
        is there; and so is one that is only missing itself."""
        far, near = f"hash:{self.path('x/y/z/a')}", f"hash:{self.path('a')}"
        daemon = self.jailmapd([far, near])
        client = self.client(daemon)
        self.assertIn(self.path("x"), self.refused(daemon, far, "No such file"))
        self.assertIn(self.path("a.db"), self.refused(daemon, near, "No such file"))
        for table in (far, near):
            for key in ("key", "absent"):
                self.assertEqual(client.lookup(table, key), (RETRY, b""))
        self.map(self.path("a"), "key near\n")
        self.eventually(client, near, "key", (OK, b"near"))
        for path in ("x", "x/y", "x/y/z"):
            self.folder(path)
            # Each step is watched before the next one is taken.
            self.assert_watched(daemon, self.path(path))
            self.assertEqual(client.lookup(far, "key"), (RETRY, b""))
        self.map(self.path("x/y/z/a"), "key far\n")
        self.eventually(client, far, "key", (OK, b"far"))
        self.assert_watched(daemon, *self.ways(self.path("x/y/z/a.db")))

    def test_appears_at_once(self):
        """Directories that are missing at start come with everything in them, by one rename."""
        table = f"hash:{self.path('x/y/a')}"
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.refused(daemon, table, "No such file")
        self.folder("made/y")
        self.map(self.path("made/y/a"), "key 1\n")
        os.rename(self.path("made"), self.path("x"))
        self.eventually(client, table, "key", (OK, b"1"))
        self.map(self.path("x/y/a"), "key 2\n")
        self.becomes(client, table, "2", "1")


class DirectoryTest(WatchCase):
    """A directory on the way changes."""

    def test_replaced(self):
        """The directory of a table, its parent and the parent of that are each moved away, and a
        new one is moved in; and what is then changed in the new one is noticed too."""
        self.folder("top/middle/inner")
        table = self.map(self.path("top/middle/inner/a"), "key 0\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.loaded(daemon, table)
        value = 0
        for name in ("top/middle/inner", "top/middle", "top"):
            for _ in range(2):
                with self.subTest(name, value=value):
                    shutil.copytree(self.path(name), self.path("next"))
                    inside = "top/middle/inner/a"[len(name) :].lstrip("/")
                    self.map(self.path(f"next/{inside}"), f"key {value + 1}\n")
                    os.rename(self.path(name), self.path(f"away{value}"))
                    os.rename(self.path("next"), self.path(name))
                    self.becomes(client, table, str(value + 1), str(value))
                    self.assert_watched(daemon, *self.ways(self.path("top/middle/inner/a.db")))
                    self.map(self.path("top/middle/inner/a"), f"key {value + 2}\n")
                    self.becomes(client, table, str(value + 2), str(value + 1))
                    value += 2
        # What was moved away has nothing to say any more, and is not watched.
        old = {os.stat(self.path(f"away{n}")).st_ino for n in range(0, value, 2)}
        wait_for(
            lambda: not old & reloading.watched_inodes(daemon.pid),
            "the directories that were moved away not to be watched any more",
        )

    def test_away_for_a_while(self):
        """While a directory on the way is missing, the last good image answers, with a line that
        names it; when it is back, the table is served from there."""
        self.folder("top/inner")
        table = self.map(self.path("top/inner/a"), "key 0\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.loaded(daemon, table)
        for name, value in (("top/inner", 1), ("top", 2)):
            mark = daemon.mark()
            os.rename(self.path(name), self.path("away"))
            self.assertIn(self.path(name), self.refused(daemon, table, "No such file", mark))
            self.assertEqual(client.lookup(table, "key"), (OK, b"%d" % (value - 1)))
            self.map(self.path("away/" + "top/inner/a"[len(name) + 1 :]), f"key {value}\n")
            os.rename(self.path("away"), self.path(name))
            self.becomes(client, table, str(value), str(value - 1))

    def test_not_safe(self):
        """A directory that others can write comes into the place of a safe one: the table is not
        loaded from it, and the last good image answers until the directory is safe."""
        self.folder("inner")
        table = self.map(self.path("inner/a"), "key 0\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.loaded(daemon, table)
        mark = daemon.mark()
        self.folder("next")
        self.map(self.path("next/a"), "key forged\n")
        os.chmod(self.path("next"), 0o777)
        os.rename(self.path("inner"), self.path("away"))
        os.rename(self.path("next"), self.path("inner"))
        self.assertIn(self.path("inner"), self.refused(daemon, table, "writ", mark))
        self.assertEqual(client.lookup(table, "key"), (OK, b"0"))
        self.map(self.path("inner/a"), "key 1\n")
        os.chmod(self.path("inner"), 0o755)
        self.becomes(client, table, "1", "0")


class LinkTest(WatchCase):
    """A symbolic link is the file, or on the way to it."""

    FOLLOW = {"symlinks": "follow"}

    def test_file_link(self):
        """With symlinks = follow, a link to a file is followed, each time it is switched, also to
        another directory; and the file behind it is noticed when it changes."""
        for name in ("one", "two"):
            self.folder(name)
        self.map(self.path("one/a"), "key 0\n")
        os.symlink(self.path("one/a.db"), self.path("a.db"))
        table = f"hash:{self.path('a')}"
        daemon = self.jailmapd([(table, self.FOLLOW)])
        client = self.client(daemon)
        self.loaded(daemon, table)
        self.assertEqual(client.lookup(table, "key"), (OK, b"0"))
        for number in range(1, 9):
            target = ("one", "two")[number % 2]
            self.map(self.path(f"{target}/a"), f"key {number}\n")
            # Absolute and relative, which is relative to the directory of the link.
            switch(self.path("a.db"), (self.path(target), target)[number // 2 % 2] + "/a.db")
            self.becomes(client, table, str(number), str(number - 1))
            self.assert_watched(daemon, self.directory, self.path(target))
        self.map(self.path("one/a"), "key behind\n")
        self.becomes(client, table, "behind", "8")

    def test_directory_link(self):
        """With symlinks = follow, a link that is a directory on the way is followed, each time it
        is switched, as a deployment does; a change behind it is noticed."""
        for name in ("release0", "release1", "release2", "release3"):
            self.folder(name, "maps")
            self.map(self.path(f"{name}/maps/a"), f"key {name}\n")
        os.symlink("release0", self.path("current"))
        table = f"hash:{self.path('current/maps/a')}"
        daemon = self.jailmapd([(table, self.FOLLOW)])
        client = self.client(daemon)
        self.loaded(daemon, table)
        for number in (1, 2, 3, 1):
            before = client.lookup(table, "key")[1].decode()
            switch(self.path("current"), f"release{number}")
            self.becomes(client, table, f"release{number}", before)
            self.assert_watched(daemon, self.path(f"release{number}/maps"), self.directory)
        self.map(self.path("release1/maps/a"), "key behind\n")
        self.becomes(client, table, "behind", "release1")

    def test_names_in_links(self):
        """What a link says is the choice of whoever made it: control characters in it, also those
        of a terminal, make no line of the log and no row of the status; and a way that is long
        without end is refused."""
        self.folder("store")
        self.map(self.path("store/a"), "key value\n")
        table = f"hash:{self.path('a')}"
        os.symlink("store/a.db", self.path("a.db"))
        daemon = self.jailmapd([(table, self.FOLLOW)])
        client = self.client(daemon)
        self.loaded(daemon, table)
        evil = "x\njailmapd: forged\ttable\tcurrent\x1b[2Jy"
        switch(self.path("a.db"), evil)
        daemon.wait_log(r"not reloaded: .*x\\x0ajailmapd: forged\\x09table\\x09current\\x1b\[2Jy: ")
        self.assertNotRegex(daemon.log(), r"(?m)^jailmapd: forged|\t|\x1b")
        rows = self.wait_status(daemon, 1, {table: "stale"})
        self.assertEqual(list(rows), [table])
        switch(self.path("a.db"), "store/../" * 300 + "store/a.db")
        daemon.wait_log(r"not reloaded: .* more than 256 components on the way")
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        mark = daemon.mark()
        switch(self.path("a.db"), "store/a.db")
        self.loaded(daemon, table, mark, "recovered")

    def test_chain(self):
        """Links to links are followed to the file; a chain that never ends, or ends nowhere, is a
        reason, and the last good image answers."""
        self.folder("store")
        self.map(self.path("store/a"), "key 0\n")
        os.symlink("store", self.path("second"))
        os.symlink("second/a.db", self.path("first"))
        os.symlink("first", self.path("a.db"))
        table = f"hash:{self.path('a')}"
        daemon = self.jailmapd([(table, self.FOLLOW)])
        client = self.client(daemon)
        self.loaded(daemon, table)
        for target, reason in (("first", "ymbolic link|loop"), ("nowhere", "No such file")):
            mark = daemon.mark()
            switch(self.path("first"), target)
            self.refused(daemon, table, reason, mark)
            self.assertEqual(client.lookup(table, "key"), (OK, b"0"))
        mark = daemon.mark()
        switch(self.path("first"), "second/a.db")
        self.loaded(daemon, table, mark)
        self.assertEqual(client.lookup(table, "key"), (OK, b"0"))
        # The directory link in the middle of the chain is switched.
        self.folder("store2")
        self.map(self.path("store2/a"), "key 1\n")
        switch(self.path("second"), "store2")
        self.becomes(client, table, "1", "0")

    def test_follow_is_safe(self):
        """With symlinks = follow, what is behind a link must be safe too: a link into a directory
        that others can write, or made by somebody else, is not followed."""
        self.folder("safe")
        self.map(self.path("safe/a"), "key good\n")
        self.folder("open")
        self.map(self.path("open/a"), "key forged\n")
        os.chmod(self.path("open"), 0o777)
        os.symlink("safe/a.db", self.path("a.db"))
        table = f"hash:{self.path('a')}"
        daemon = self.jailmapd([(table, self.FOLLOW)])
        client = self.client(daemon)
        self.loaded(daemon, table)
        mark = daemon.mark()
        switch(self.path("a.db"), "open/a.db")
        self.assertIn(self.path("open"), self.refused(daemon, table, "writ", mark))
        self.assertEqual(client.lookup(table, "key"), (OK, b"good"))
        mark = daemon.mark()
        self.map(self.path("safe/b"), "key forged\n")
        os.symlink("safe/b.db", self.path("a.db.new"))
        os.lchown(self.path("a.db.new"), 1, 0)
        os.rename(self.path("a.db.new"), self.path("a.db"))
        self.refused(daemon, table, "own|belong", mark)
        self.assertEqual(client.lookup(table, "key"), (OK, b"good"))

    def test_refused(self):
        """Without that option, a link in the place of the file or of a directory on the way is not
        followed, at start and later: the reason names the link, and the last good image answers."""
        self.folder("real")
        self.map(self.path("real/a"), "key real\n")
        os.symlink("real/a.db", self.path("link.db"))
        os.symlink("real", self.path("folder"))
        self.folder("later")
        links = {
            f"hash:{self.path('link')}": self.path("link.db"),
            f"hash:{self.path('folder/a')}": self.path("folder"),
        }
        later = self.map(self.path("later/a"), "key good\n")
        daemon = self.jailmapd([*links, later])
        client = self.client(daemon)
        for table, link in links.items():
            self.assertIn(link, self.refused(daemon, table, "link"))
            self.assertEqual(client.lookup(table, "key"), (RETRY, b""))
        self.loaded(daemon, later)
        mark = daemon.mark()
        switch(self.path("later/a.db"), self.path("real/a.db"))
        self.assertIn(self.path("later/a.db"), self.refused(daemon, later, "link", mark))
        self.assertEqual(client.lookup(later, "key"), (OK, b"good"))
        mark = daemon.mark()
        os.unlink(self.path("later/a.db"))
        self.map(self.path("later/a"), "key again\n")
        self.becomes(client, later, "again", "good")
        mark = daemon.mark()
        os.rename(self.path("later"), self.path("later.real"))
        os.symlink("later.real", self.path("later"))
        self.assertIn(self.path("later"), self.refused(daemon, later, "link", mark))
        self.assertEqual(client.lookup(later, "key"), (OK, b"again"))
