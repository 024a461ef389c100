"""Clients that are slow, large, many or hostile: none of them disturbs another, or the log.

Everything here is done through sockets, as any user of the machine could.
"""

import contextlib
import os
import re
import secrets

import harness
import nameservice
import proc
import protocol
from harness import entries, workspace
from protocol import OK, NOKEY, o_open, o_lookup, reply, Closed
from waiting import wait_for

ALICE, BOB = 1, 2


class ClientsTest(harness.Case):
    """Clients that are slow, large, many, or hostile."""

    def test_slow_reader(self):
        """A client that asks for 3 MB values and does not read delays nobody, and gets every byte
        when it does read."""
        table = self.table("a", "big " + "v" * 3_000_000 + "\nkey value\n")
        daemon = self.jailmapd([table], socket_options={"workers": 1})
        slow, quick = self.client(daemon), self.client(daemon)
        self.assertEqual(slow.lookup(table, "key"), (OK, b"value"))
        slow.send(o_lookup(table, "big", 64) * 3)
        for _ in range(200):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        slow.send(o_lookup(table, "key", 64))
        for _ in range(200):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        expected = reply("status", OK, "value", "v" * 3_000_000)
        for _ in range(3):
            self.assertTrue(slow.receive() == expected, "3 MB value arrives whole")
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(slow.receive(), reply("status", OK, "value", "value"))

    def test_half_request(self):
        """A half-sent request stalls nobody, and its client is disconnected cleanly after
        request-timeout, with a log line."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"request-timeout": 1, "workers": 1})
        whole = o_lookup(table, "key", 64)
        idle, quick = self.client(daemon), self.client(daemon)
        late = [self.client(daemon) for _ in range(4)]
        for client, part in zip(late, (whole[:1], whole[:20], whole[:-1], whole + whole[:9])):
            client.send(part)
        for _ in range(100):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        answers = [client.receive_all() for client in late]
        self.assertEqual(answers[:3], [b""] * 3)
        self.assertEqual(answers[3], reply("status", OK, "value", "value"))
        daemon.wait_log(
            rf"warning: closed client uid 0 pid {os.getpid()} on {daemon.socket}: "
            r"request incomplete after 1 s"
        )
        self.assertEqual(idle.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

    def test_trickle(self):
        """A request that never ends is cut off although a byte of it arrives again and again."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"request-timeout": 1})
        client, quick = self.client(daemon), self.client(daemon)

        def closed():
            try:
                client.send(b"x")
            except OSError:
                return True
            return self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

        wait_for(closed, "the endless request to be cut off")
        daemon.wait_log(r"closed client uid 0 pid \d+ on .*: request incomplete after 1 s")

    def test_oversize_request(self):
        """A request above max-request is a clean close with a log line; below it is served; nobody
        else notices."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"max-request": 65536})
        quick = self.client(daemon)
        self.assertEqual(self.client(daemon).lookup(table, "k" * 65000), (NOKEY, b""))
        for data in (
            o_lookup(table, "k" * 65536, 64),
            b"x" * 200_000,
            b"request\0lookup\0" + b"a\0b\0" * 40_000,
            b"request\0open\0table\0" + b"t" * 80_000,
        ):
            mark = daemon.mark()
            client = self.client(daemon)
            with contextlib.suppress(OSError):
                client.send(data)
                client.half_close()
            # A list that is already known to be wrong may have been answered before it was too
            # long.
            self.assertIn(client.receive_all(), (b"", reply("status", 3, "value", "")))
            if not data.startswith(b"request\0lookup\0a"):
                daemon.wait_log(
                    rf"warning: closed client uid 0 pid {os.getpid()} on {daemon.socket}: "
                    r"request larger than "
                    r"65536 bytes",
                    since=mark,
                )
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

    def test_long_keys(self):
        """Keys of 128 KiB and more are served, to several clients that send them in pieces at the
        same time."""
        long_key = "h" * (128 * 1024)
        table = self.table("a", f"{long_key} found\nkey value\n")
        daemon = self.jailmapd([table])
        clients = [self.client(daemon) for _ in range(16)]
        data = o_lookup(table, long_key, 64)
        for start in range(0, len(data), 10_000):
            for client in clients:
                client.send(data[start : start + 10_000])
        for client in clients:
            self.assertEqual(client.receive(), reply("status", OK, "value", "found"))
            self.assertEqual(client.lookup(table, long_key + "x"), (NOKEY, b""))
            self.assertEqual(client.lookup(table, "k" * 3_000_000), (NOKEY, b""))

    def test_long_user_name(self):
        """A key longer than any user name is not found in the user database, and the next lookup
        is."""
        daemon = self.jailmapd(["unix:passwd.byname"])
        client = self.client(daemon)
        for length in (1000, 100_000, 300_000, 3_000_000):
            self.assertEqual(client.lookup("unix:passwd.byname", "u" * length), (NOKEY, b""))
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)

    def test_many_clients(self):
        """500 clients are connected and served at the same time, from an image and by the agent."""
        table, users = self.table("a", entries(500)), "unix:passwd.byname"
        daemon = self.jailmapd([table, users], start=False)
        daemon.start(wrap=nameservice.switched())
        clients = [self.client(daemon) for _ in range(500)]
        for turn in range(3):
            for number, client in enumerate(clients, 1):
                client.send(
                    o_lookup(table, f"key{number - 1}", 64)
                    + o_lookup(users, f"nss-user-{number}", 64)
                    + o_lookup(users, "root", 64)
                )
            for number, client in enumerate(clients, 1):
                for value in (f"value{number - 1}", nameservice.user(number)):
                    self.assertEqual(
                        client.receive(), reply("status", OK, "value", value), f"turn {turn}"
                    )
                self.assertRegex(client.receive(), rb"^status\x000\x00value\x00root:")
        self.assertLessEqual(len(daemon.roles()["worker"]), 2)

    def test_too_many_clients(self):
        """Clients beyond the limit are refused with a log line, the others go on, and places become
        free again."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            socket_options={"workers": 1, "clients-per-worker": 4},
            allow={"root": ["*"], str(ALICE): ["*"]},
        )
        inside = [self.client(daemon) for _ in range(4)]
        extra = self.client(daemon, greeting=False)
        with self.assertRaises(Closed):
            extra.receive()
        daemon.wait_log(
            rf"refused client uid 0 pid {os.getpid()} on {daemon.socket}: all its workers are full"
        )
        for client in inside:
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(table, "key"), (OK, b"value"))
        inside.pop().close()

        def served():
            with contextlib.suppress(Closed), daemon.client() as client:
                return client.lookup(table, "key") == (OK, b"value")
            return False

        wait_for(served, "a place to become free")

    def test_garbage(self):
        """Random bytes on 100 connections end none but their own."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        quick = self.client(daemon)
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        worker = daemon.roles()["worker"]
        for number in range(100):
            with daemon.client() as client, contextlib.suppress(OSError):
                client.send(secrets.token_bytes(1 + number * 37))
                client.half_close()
                client.receive_all()
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(daemon.roles()["worker"], worker)

    def test_denied_line(self):
        """A denied table is logged with peer and socket, and the lines that the log gives do
        approve it."""
        table, other = self.table("a", "key value\n"), self.table("b", "key other\n")
        daemon = self.jailmapd([other], allow={"daemon": [other]})
        uid = 1
        client = self.client(daemon, uid=uid)
        self.assertEqual(client.call(o_open(table)), [protocol.DENY, b"0"])
        match = daemon.wait_log(
            rf'jailmapd: warning: denied table "{table}" to uid {uid} pid \d+ on {daemon.socket}; '
            r"to approve it, jailmapd\.conf needs: (.*)$"
        )
        text = re.sub(r"(?m)^allow .*\n", "", proc.read(daemon.config)) + match.group(1) + "\n"
        daemon.stop()
        workspace().write(daemon.directory, "jailmapd.conf", text)
        daemon.start()
        client = self.client(daemon, uid=uid)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(client.lookup(other, "key"), (OK, b"other"))

    def test_log_lines_are_the_daemons(self):
        """A client cannot put a line of its own into the log, nor fill it with refusals; others of
        its user are served meanwhile."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client, quick = self.client(daemon), self.client(daemon)
        for end in (
            "\njailmapd: approved table forged",
            "\r\x1b[2J\x07forged",
            "\x00"[:0] + "\x80\xff" + "f" * 9000 + "forged",
        ):
            self.assertEqual(client.call(o_open("hash:/x" + end))[0], protocol.DENY)
        client.send(b"".join(o_open(f"hash:/flood/{number}") for number in range(400)))
        for _ in range(100):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        for _ in range(400):
            self.assertEqual(client.receive(), reply("status", protocol.DENY, "flags", 0))
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        daemon.wait_log(r"denied table \"hash:/flood/")
        self.assertEqual(daemon.stop(), 0)
        log = daemon.log()
        self.assertNotRegex(log, r"(?m)^(jailmapd: )?approved table forged")
        self.assertFalse(set(log) & {chr(code) for code in (*range(10), *range(11, 32), 127)})
        self.assertFalse([line for line in log.splitlines() if not line.startswith("jailmapd: ")])
        self.assertLess(log.count("denied table"), 200)
