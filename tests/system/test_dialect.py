"""The dialect of Postfix 3.11 and later, and both dialects on one connection.

Debian 12 has no server that speaks it, so the frames come from a description of the protocol and
are stated here.
"""

import os
import pwd
import shutil
import unittest

import harness
from cases import show
from harness import postmap, workspace
from protocol import (
    OK,
    NOKEY,
    RETRY,
    BAD,
    DENY,
    attributes,
    o_open,
    o_lookup,
    n_open,
    n_lookup,
    reply,
)


class NewDialectTest(unittest.TestCase):
    """The dialect of Postfix 3.11 and later. Debian 12 has no such server, so the frames come from
    its description."""

    @classmethod
    def setUpClass(cls):
        directory = workspace().directory("new-dialect")
        path = os.path.join(directory, "v")
        postmap(
            "hash",
            path,
            "user0@example.com dest0@mail.example.org\nuser5@example.com dest5@mail.example.org\n",
        )
        shutil.copy(path, path + "-bare")
        postmap("hash", path + "-bare", None, "-n")
        cls.table, cls.bare = f"hash:{path}", f"hash:{path}-bare"
        cls.unapproved = f"hash:{path}-not"
        cls.missing = f"hash:{path}-missing"
        cls.users = "unix:passwd.byname"
        cls.jailmapd = harness.Jailmapd(
            "new-dialect", tables=[cls.table, cls.bare, cls.users, cls.missing]
        )
        cls.addClassCleanup(cls.jailmapd.stop)
        cls.jailmapd.start()

    def frames(self, pairs):
        with self.jailmapd.client() as client:
            for sent, expected in pairs:
                found = client.ask(sent)
                self.assertEqual(found, expected, f"sent {show(sent)}")

    def test_n_open(self):
        """N: open gives back every instance flag with the type bits, and never claims
        UTF8_ACTIVE."""
        for flags in (0, 540736, 542784, 524352, 64, 540737, 524353, 16449, 2637889, 590208):
            self.frames(
                [
                    (n_open(self.table, flags), reply("status", OK, "flags", flags | 28)),
                    (n_open(self.users, flags), reply("status", OK, "flags", flags | 16)),
                ]
            )
        self.frames([(n_open("proxy:" + self.table, 540736), reply("status", OK, "flags", 540764))])

    def test_n_lookup(self):
        """N: a lookup gives back the request's flags; a hit clears the bit of the stored form that
        the table has not."""

        def ask(table, key, flags):
            return n_lookup(table, key, 540736, flags)

        self.frames(
            [
                (
                    ask(self.table, "User5@Example.com", 1589340),
                    reply("status", OK, "flags", 1589336, "value", "dest5@mail.example.org"),
                ),
                (
                    ask(self.table, "nobody@example.com", 1589340),
                    reply("status", NOKEY, "flags", 1589340, "value", ""),
                ),
                (
                    ask(self.bare, "User5@Example.com", 1589340),
                    reply("status", OK, "flags", 1589332, "value", "dest5@mail.example.org"),
                ),
                (
                    ask(self.table, "user0@example.com", 540764),
                    reply("status", OK, "flags", 540760, "value", "dest0@mail.example.org"),
                ),
                (
                    ask(self.table, "user0@example.com", 92),
                    reply("status", OK, "flags", 88, "value", "dest0@mail.example.org"),
                ),
                (
                    ask(self.table, "USER0@example.com", 92),
                    reply("status", NOKEY, "flags", 92, "value", ""),
                ),
                (
                    ask(self.users, "Root", 1589328),
                    reply(
                        "status",
                        OK,
                        "flags",
                        1589328,
                        "value",
                        ":".join(map(str, pwd.getpwnam("root"))),
                    ),
                ),
                (
                    ask(self.users, "no-such-user", 1589328),
                    reply("status", NOKEY, "flags", 1589328, "value", ""),
                ),
                (
                    ask(self.missing, "x", 1589340),
                    reply("status", RETRY, "flags", 1589340, "value", ""),
                ),
                # Neither form asked for: the server of 3.11 aborts; here both are tried, as on
                # opening.
                (
                    n_lookup(self.table, "user0@example.com", 0, 64),
                    reply("status", OK, "flags", 64, "value", "dest0@mail.example.org"),
                ),
            ]
        )

    def test_n_malformed(self):
        """N: the BAD and DENY replies of each request carry flags 0."""
        table = self.table
        head = ("table", table, "instance_flags", 0)
        changes = [
            attributes("request", "update", *head, "flags", 0, "key", "a", "value", "b"),
            attributes("request", "delete", *head, "flags", 0, "key", "a"),
        ]
        self.frames(
            [
                (
                    attributes("request", "lookup", *head),
                    reply("status", BAD, "flags", 0, "value", ""),
                ),
                (
                    attributes("request", "lookup", *head, "flags", 0),
                    reply("status", BAD, "flags", 0, "value", ""),
                ),
                (
                    attributes("request", "lookup", *head, "key", "x", "flags", 0),
                    reply("status", BAD, "flags", 0, "value", ""),
                ),
                (
                    attributes("request", "lookup", *head, "flags", "x", "key", "x"),
                    reply("status", BAD, "flags", 0, "value", ""),
                ),
                (
                    attributes(
                        "request",
                        "lookup",
                        "table",
                        table,
                        "instance_flags",
                        "x",
                        "flags",
                        0,
                        "key",
                        "x",
                    ),
                    reply("status", BAD, "flags", 0, "value", ""),
                ),
                (
                    attributes("request", "sequence", *head),
                    reply("status", BAD, "flags", 0, "key", "", "value", ""),
                ),
                (
                    attributes("request", "sequence", *head, "flags", 0, "function", 2),
                    reply("status", BAD, "flags", 0, "key", "", "value", ""),
                ),
                (attributes("request", "update", *head), reply("status", BAD, "flags", 0)),
                (attributes("request", "delete", *head), reply("status", BAD, "flags", 0)),
                *((change, reply("status", DENY, "flags", 0)) for change in changes),
                (n_open(self.unapproved), reply("status", DENY, "flags", 0)),
                (n_open("nocolon"), reply("status", BAD, "flags", 0)),
                (
                    n_lookup(self.unapproved, "x", 0, 28),
                    reply("status", DENY, "flags", 0, "value", ""),
                ),
                (n_lookup("nocolon", "x", 0, 28), reply("status", BAD, "flags", 0, "value", "")),
                (
                    attributes(
                        "request",
                        "sequence",
                        "table",
                        self.unapproved,
                        "instance_flags",
                        0,
                        "flags",
                        0,
                        "function",
                        0,
                    ),
                    reply("status", DENY, "flags", 0, "key", "", "value", ""),
                ),
                (attributes("request", "frob", *head), reply("status", BAD)),
                # An extra attribute is ignored in this dialect too.
                (n_open(table)[:-1] + attributes("extra", "1"), reply("status", OK, "flags", 28)),
            ]
        )

    def test_n_half_closed(self):
        """N: a request that ends early is BAD in the dialect that is known so far, and the
        connection ends."""
        whole, short = n_lookup(self.table, "user0@example.com", 0, 92), reply(
            "status", BAD, "value", ""
        )
        bad = reply("status", BAD, "flags", 0, "value", "")
        found = reply("status", OK, "flags", 88, "value", "dest0@mail.example.org")
        known = whole.index(b"instance_flags") + len("instance_flags") + 1
        for length, expected in (
            (8, b""),
            (whole.index(b"instance_flags"), short),
            (known + 2, bad),
            (known + 8, bad),
            (len(whole) - 2, bad),
            (len(whole) - 1, bad),
            (len(whole), found),
        ):
            with self.jailmapd.client() as client:
                client.send(whole[:length])
                client.half_close()
                self.assertEqual(client.receive_all(), expected, f"{length} of {len(whole)} bytes")

    def test_n_sequence(self):
        """N: sequence replies carry the request's flags before key and value."""

        def ask(function):
            return attributes(
                "request",
                "sequence",
                "table",
                self.table,
                "instance_flags",
                540737,
                "flags",
                1589341,
                "function",
                function,
            )

        with self.jailmapd.client() as client:
            found = [client.ask(ask(function)) for function in (0, 1, 1)]
        rows = {
            reply(
                "status",
                OK,
                "flags",
                1589341,
                "key",
                f"user{n}@example.com",
                "value",
                f"dest{n}@mail.example.org",
            )
            for n in (0, 5)
        }
        self.assertEqual(set(found[:2]), rows)
        self.assertEqual(found[2], reply("status", NOKEY, "flags", 1589341, "key", "", "value", ""))

    def test_n_utf8(self):
        """N: keys that are not ASCII are looked up as bytes, as a client that folds for itself
        sends them."""
        self.frames(
            [
                (
                    n_lookup(self.table, "\xe0user5@example.com", 540736, 1572945),
                    reply("status", NOKEY, "flags", 1572945, "value", ""),
                ),
                (
                    n_lookup(self.table, b"\xff\xfe", 540736, 1589340),
                    reply("status", NOKEY, "flags", 1589340, "value", ""),
                ),
            ]
        )

    def test_mixed_dialects(self):
        """Both dialects on one connection, decided for each request, also when pipelined."""
        old = o_lookup(self.table, "user0@example.com", 64)
        new = n_lookup(self.table, "user0@example.com", 0, 92)
        old_found = reply("status", OK, "value", "dest0@mail.example.org")
        new_found = reply("status", OK, "flags", 88, "value", "dest0@mail.example.org")
        self.frames(
            [
                (old, old_found),
                (new, new_found),
                (o_open(self.table, 0), reply("status", OK, "flags", 28)),
                (n_open(self.table, 64), reply("status", OK, "flags", 92)),
                (old, old_found),
                (new, new_found),
            ]
        )
        with self.jailmapd.client() as client:
            client.send((old + new) * 50)
            for _ in range(50):
                self.assertEqual(client.receive(), old_found)
                self.assertEqual(client.receive(), new_found)
