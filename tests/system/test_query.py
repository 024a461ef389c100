"""The tool, jailmap(8), as a user sees it: values, messages and exit statuses, also from inside a
chroot.

Runs as root inside tests/system/run, and starts the tool as itself or as an unprivileged user. The
chroot is below the private directory of the run and holds nothing but the tool and a socket.
"""

import os
import pwd
import re
import shutil
import socket

import harness
import protocol
from harness import workspace
from protocol import reply
from waiting import LIMIT

ALICE, BOB = 1, 2


class QueryTest(harness.Case):
    """The tool."""

    def test_query(self):
        """jailmap query: values, exit statuses and messages for found, not found, failing,
        unapproved, malformed and no server."""
        table, missing, users = (
            self.table("a", "key value\nother two words\n"),
            self.table("missing"),
            "unix:passwd.byname",
        )
        daemon = self.jailmapd([table, missing, users])
        self.assertEqual(daemon.query(table, "key"), (0, "value\n", ""))
        self.assertEqual(daemon.query(table, "KEY", "other"), (0, "value\ntwo words\n", ""))
        self.assertEqual(daemon.query("proxy:" + table, "key"), (0, "value\n", ""))
        self.assertEqual(
            daemon.query(users, "root"),
            (0, ":".join(map(str, pwd.getpwnam("root"))) + "\n", ""),
        )

        def check(arguments, code, out, word, stdin=b""):
            found = daemon.query(*arguments, stdin=stdin)
            self.assertEqual(found[:2], (code, out), found)
            self.assertRegex(found[2], word)

        check((table, "absent"), 1, "", "absent")
        check((table, "absent", "key", "x"), 0, "value\n", "absent")
        check((missing, "key"), 75, "", "temporary|again")
        check((missing, "key", "key"), 75, "", "temporary|again")
        check(("hash:/not/declared", "key"), 77, "", "approved")
        check(("nocolon", "key"), 64, "", "nocolon|malformed|TYPE")
        check((table,), 64, "", "usage|key")
        check((), 64, "", "usage")
        self.assertEqual(
            daemon.query(table, "-", stdin=b"key\nabsent\nother\n"),
            (0, "key\tvalue\nother\ttwo words\n", ""),
        )
        self.assertEqual(daemon.query(table, "-", stdin=b"key"), (0, "key\tvalue\n", ""))
        self.assertEqual(daemon.query(table, "-", stdin=b"absent\n")[:2], (1, ""))
        self.assertEqual(daemon.query(table, "-", stdin=b"")[:2], (1, ""))
        lines = "".join(f"absent{number}\nkey\n" for number in range(5000)).encode()
        self.assertEqual(daemon.query(table, "-", stdin=lines), (0, "key\tvalue\n" * 5000, ""))
        check((table, "-"), 65, "", "NUL", stdin=b"k\0ey\n")
        with open("/dev/full", "wb") as full:
            process = harness.start(
                [workspace().jailmap, "query", "-s", daemon.socket, table, "key"],
                stdout=full,
                stderr=harness.subprocess.DEVNULL,
            )
            self.assertEqual(harness.wait_exit(process, "the tool to end"), 74)
        daemon.stop()
        check((table, "key"), 75, "", re.escape(daemon.socket))

    def test_tool_usage(self):
        """jailmap without a command, with an unknown one, with a bad option: exit 64 and a message;
        -V: the version."""
        for arguments in (
            (),
            ("frob",),
            ("query",),
            ("query", "-x", "hash:/x", "k"),
            ("query", "-s"),
            ("-x",),
        ):
            code, out, errors = harness.run([workspace().jailmap, *arguments])
            self.assertEqual((code, out), (64, ""), arguments)
            self.assertTrue(errors)
        code, out, errors = harness.run([workspace().jailmap, "-V"])
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(out, r"^jailmap \d+\.\d+")

    def test_tool_and_strange_servers(self):
        """jailmap query ends with 75 or 76 and a message when what answers is no map server, or
        answers nonsense."""
        greeting = protocol.GREETING
        # What comes at once; what comes after the request (None: the end comes before); the status.
        answers = [
            (b"", None, 75),
            (b"220 smtp\r\n", None, 75),
            (b"protocol\0other\0\0", None, 75),
            (greeting, None, 75),
            (greeting, b"", 75),
            (greeting, b"status\0", 75),
            (greeting, reply("status", 0), 75),
            (greeting, reply("flags", 0, "status", 0), 75),
            (greeting, reply("status", 9, "flags", 0), 76),
            (greeting, reply("status", 3, "flags", 0), 64),
            (greeting, reply("status", 4, "flags", 0), 77),
        ]
        for number, (early, late, expected) in enumerate(answers):
            with self.subTest(early=early, late=late), socket.socket(socket.AF_UNIX) as server:
                path = self.path(f"server{number}")
                server.bind(path)
                server.listen()
                process = harness.start(
                    [workspace().jailmap, "query", "-s", path, "hash:/x", "key"],
                    stdout=harness.subprocess.PIPE,
                    stderr=harness.subprocess.PIPE,
                )
                peer, _ = server.accept()
                peer.sendall(early)
                if late is not None:
                    peer.settimeout(LIMIT)
                    self.assertTrue(peer.recv(4096))
                    peer.sendall(late)
                peer.close()
                out, errors = process.communicate(timeout=LIMIT)
                self.assertEqual(
                    (harness.wait_exit(process, "the tool"), out), (expected, b""), errors
                )
                self.assertTrue(errors)

    @harness.not_sanitized("the tool needs libraries there")
    def test_tool_in_a_jail(self):
        """A copy of jailmap works in a chroot that holds nothing but it and the socket, for an
        unprivileged user."""
        jail = workspace().directory("chroot")
        shutil.copy(workspace().jailmap, os.path.join(jail, "jailmap"))
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            listen={os.path.join(jail, "socket"): {"mode": "0666"}},
            allow={str(ALICE): [table]},
        )
        for uid, expected in ((ALICE, (0, "value\n")), (BOB, (77, ""))):
            found = harness.run(
                [
                    "/usr/sbin/chroot",
                    f"--userspec={uid}:{uid}",
                    "--groups=",
                    jail,
                    "/jailmap",
                    "query",
                    "-s",
                    "/socket",
                    table,
                    "key",
                ]
            )
            self.assertEqual(found[:2], expected, found)
        self.assertEqual(sorted(os.listdir(jail)), ["jailmap", "socket"])
        self.assertRegex(daemon.log(), rf"approved table \"{table}\" for uid {ALICE} pid \d+ ")
