"""Start, stop, and what is refused at start: signals, sockets, helpers and configurations.

Every error is one line, `FILE:LINE: message`, with exit status 78, and nothing is started.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import stat

import harness
import proc
import protocol
from harness import entries, workspace
from protocol import OK, o_lookup, reply
from waiting import LIMIT, wait_for

ALICE, BOB = 1, 2


class StartTest(harness.Case):
    """Start, stop, and what is refused at start."""

    def jailmapd_exits(self, config, *options, **environment):
        """(exit status, stderr) of a jailmapd that does not stay."""
        code, out, errors = harness.run(
            [workspace().jailmapd, *options, "-c", config],
            env={"PATH": harness.PATH, **environment},
        )
        if code != 0:
            self.assertEqual(out, "")
        return code, errors

    def test_stop(self):
        """SIGTERM and SIGINT: exit status 0, sockets and pid file are gone, no process is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = self.jailmapd([self.table("a", "key value\n"), "unix:passwd.byname"])
            client = self.client(daemon)
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)
            below = proc.snapshot(daemon.pid)
            daemon.process.send_signal(number)
            self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to stop"), 0)
            self.assertFalse(os.path.exists(daemon.socket))
            self.assertEqual(os.listdir(daemon.runtime), ["empty"])
            harness.wait_ended(below, "the helpers to end")
            self.assertEqual(client.receive_all(), b"")
            daemon.wait_log(r"stopping")

    def test_ready_is_ready(self):
        """The first lookups after the ready line get answers, also from a table that takes a while
        to load, and not temporary errors."""
        table, small = self.table("large", entries(200_000)), self.table("small", "key value\n")
        for _ in range(3):
            daemon = self.jailmapd([table, small, "unix:passwd.byname"])
            client, other = self.client(daemon), self.client(daemon)
            client.send(o_lookup(table, "key199999", 64))
            self.assertEqual(other.lookup("unix:passwd.byname", "root")[0], OK)
            self.assertEqual(other.lookup(small, "key"), (OK, b"value"))
            self.assertEqual(client.receive(), reply("status", OK, "value", "value199999"))
            daemon.stop()

    def test_hangup(self):
        """SIGHUP: every table is looked at, clients stay connected."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log(r"SIGHUP")
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))

    def test_socket_file(self):
        """Sockets have the owner, group and mode of their section; clients of two sockets have
        different workers."""
        place = workspace().directory("jail", 0o700, (ALICE, BOB))
        paths = os.path.join(place, "one"), os.path.join(workspace().directory("place"), "two")
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            listen={
                paths[0]: {"owner": str(ALICE), "group": str(BOB), "mode": "0620"},
                paths[1]: {"mode": "0600", "owner": "root"},
            },
        )
        for path, expected in zip(paths, ((ALICE, BOB, 0o620), (0, 0, 0o600))):
            info = os.stat(path)
            self.assertEqual((info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)), expected)
            client = protocol.Client(path)
            self.addCleanup(client.close)
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(len(daemon.wait_roles("worker", 2)), 2)
        self.assertRegex(daemon.log(), r"ready: 1 tables?, 2 listeners, pid \d+")

    def test_second_instance(self):
        """A second jailmapd with the same runtime-dir or the same socket is refused, and the first
        does not notice."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        code, errors = self.jailmapd_exits(daemon.config, "-f")
        self.assertEqual((code, errors.count("\n")), (75, 1), errors)
        self.assertIn(daemon.runtime, errors)
        text = harness.config_text(
            daemon.runtime + "-other", tables=[table], listen={daemon.socket: {}}
        )
        code, errors = self.jailmapd_exits(
            workspace().write(self.directory, "other.conf", text), "-f"
        )
        self.assertEqual(code, 78, errors)
        self.assertIn(daemon.socket, errors)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))

    def test_helpers_not_safe(self):
        """A libexec-dir that is missing, incomplete, a link, somebody else's or writable by others:
        exit 78, one line, nothing started."""

        def broken(name, change):
            place = os.path.join(self.directory, name)
            shutil.copytree(workspace().libexec, place)
            change(place)
            return place

        worker = "jailmap-worker"
        cases = {
            "missing": self.path("nowhere"),
            "incomplete": broken(
                "incomplete", lambda place: os.unlink(os.path.join(place, worker))
            ),
            "open-directory": broken("open-directory", lambda place: os.chmod(place, 0o777)),
            "open-program": broken(
                "open-program", lambda place: os.chmod(os.path.join(place, worker), 0o757)
            ),
            "group-program": broken(
                "group-program", lambda place: os.chmod(os.path.join(place, worker), 0o775)
            ),
            "foreign-program": broken(
                "foreign-program", lambda place: os.chown(os.path.join(place, worker), ALICE, 0)
            ),
            "foreign-directory": broken(
                "foreign-directory", lambda place: os.chown(place, ALICE, 0)
            ),
        }
        os.symlink(workspace().libexec, self.path("link"))
        cases["link"] = self.path("link")
        for name, place in cases.items():
            with self.subTest(name):
                daemon = self.jailmapd(start=False, libexec=place)
                line = next(
                    number
                    for number, text in enumerate(proc.read(daemon.config).splitlines(), 1)
                    if text.startswith("libexec-dir")
                )
                for options in (("-f",), ("-n",), ()):
                    code, errors = self.jailmapd_exits(daemon.config, *options)
                    self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                    self.assertTrue(errors.startswith(f"{daemon.config}:{line}:1: "), errors)
                    self.assertIn(place, errors)
                self.assertFalse(os.path.exists(daemon.socket))

    def test_config_file_not_safe(self):
        """A configuration file that is missing, a link, a FIFO, somebody else's or writable by
        others is not read."""
        daemon = self.jailmapd(start=False)
        good = proc.read(daemon.config)
        self.assertEqual(self.jailmapd_exits(daemon.config, "-n"), (0, ""))

        def broken(name, change):
            path = workspace().write(self.directory, name, good)
            change(path)
            return path

        os.symlink(daemon.config, self.path("link.conf"))
        os.mkfifo(self.path("fifo.conf"))
        for path in (
            self.path("missing.conf"),
            self.path("link.conf"),
            self.path("fifo.conf"),
            self.directory,
            broken("open.conf", lambda path: os.chmod(path, 0o666)),
            broken("group.conf", lambda path: os.chmod(path, 0o664)),
            broken("foreign.conf", lambda path: os.chown(path, ALICE, 0)),
        ):
            for options in (("-n",), ("-f",)):
                code, errors = self.jailmapd_exits(path, *options)
                self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                self.assertTrue(errors.startswith(path + ":"), errors)

    def test_notify(self):
        """READY=1 is sent to NOTIFY_SOCKET, by path and by abstract name, when the socket answers;
        STOPPING is no error."""
        table = self.table("a", "key value\n")
        for address in (self.path("notify"), "\0jailmap-check-" + secrets.token_hex(8)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(address)
                manager.settimeout(LIMIT)
                daemon = self.jailmapd([table], start=False)
                daemon.start(env={"NOTIFY_SOCKET": address.replace("\0", "@")}, ready=False)
                message = manager.recv(4096).decode()
                self.assertIn("READY=1", message.splitlines())
                self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))
                self.assertEqual(daemon.stop(), 0)

    def test_notify_nowhere(self):
        """A NOTIFY_SOCKET that does not answer does not stop the start."""
        daemon = self.jailmapd(["unix:passwd.byname"], start=False)
        daemon.start(env={"NOTIFY_SOCKET": self.path("nobody-listens")})
        self.assertEqual(self.client(daemon).lookup("unix:passwd.byname", "root")[0], OK)

    def test_background(self):
        """Without -f the command returns 0 only when the socket answers, and leaves a daemon with a
        pid file and no terminal."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table, "unix:passwd.byname"], start=False)
        # Returning at all shows that the daemon keeps neither standard output nor standard error.
        self.assertEqual(harness.run([workspace().jailmapd, "-c", daemon.config]), (0, "", ""))
        with protocol.Client(daemon.socket) as client:
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        pid = int(proc.read(os.path.join(daemon.runtime, "jailmapd.pid")))
        self.assertEqual(proc.exe(pid), workspace().jailmapd)
        self.assertEqual({proc.descriptors(pid)[fd] for fd in (0, 1, 2)}, {"/dev/null"})
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        below = proc.snapshot(pid)
        harness.kill(pid, signal.SIGTERM)
        harness.wait_ended(below, "the helpers of the daemon to end")
        wait_for(lambda: harness.reap() or not proc.alive(pid), "the daemon to stop")
        self.assertFalse(os.path.exists(daemon.socket))

    def test_background_fails(self):
        """Without -f a start that fails says so in the command itself, with its exit status and one
        line."""
        place = workspace().directory("open", 0o777)
        daemon = self.jailmapd(start=False, listen={os.path.join(place, "socket"): {}})
        code, errors = self.jailmapd_exits(daemon.config)
        self.assertEqual((code, errors.count("\n")), (78, 1), errors)
        self.assertRegex(errors, rf"^{daemon.config}:\d+:\d+: .*{place}")

    def test_usage(self):
        """Wrong options: exit 64. -V: the version. Not root: exit 77."""
        for options in (("-x",), ("-c",), ("operand",), ("-f", "operand")):
            code, out, errors = harness.run([workspace().jailmapd, *options])
            self.assertEqual((code, out), (64, ""), options)
            self.assertTrue(errors)
        code, out, errors = harness.run([workspace().jailmapd, "-V"])
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(out, r"^jailmapd \d+\.\d+")
        daemon = self.jailmapd(start=False)
        code, _, errors = harness.run(
            [workspace().jailmapd, "-f", "-c", daemon.config],
            user=ALICE,
            group=ALICE,
            extra_groups=[],
        )
        self.assertEqual(code, 77, errors)

    def test_bad_configurations(self):
        """Some 60 wrong configurations: exit 78 from -n and from a start, one line with file, line
        and the word in question, nothing started."""
        checks, start_only = (("-n",), ("-f",)), (("-f",),)
        runtime, place = self.path("run"), workspace().directory("sockets")
        path, table = os.path.join(place, "socket"), self.table("a", "key value\n")
        base = [
            'user = "nobody"',
            f'runtime-dir = "{runtime}"',
            f'libexec-dir = "{workspace().libexec}"',
            f'listen "{path}" {{',
            "    mode = 0666",
            "}",
            'table "unix:passwd.byname" { }',
            f'table "{table}" {{',
            "}",
            'allow "root" { tables = {"*"} }',
        ]
        opened = workspace().directory("opened", 0o777)

        def line(number, *texts):
            """The base with a line replaced, and the number of the first new one."""
            return base[: number - 1] + list(texts) + base[number:], number

        def added(*texts):
            return base + list(texts), len(base) + 1

        def title(number, last, *texts):
            """As line(), for the title of a section: what is wrong with it may be told at the end
            of the section."""
            return base[: number - 1] + list(texts) + base[number:], range(number, last + 1)

        def within(number, text):
            """A line inserted after line `number`, that is inside a section that begins there."""
            return base[:number] + ["    " + text] + base[number:], number + 1

        users = "unix:passwd.byname"
        cases = [
            ("unknown option", added("frob = 1"), "frob"),
            ("unknown section", added('frob "x" { }'), "frob"),
            ("unknown option in listen", within(4, "colour = red"), "colour"),
            ("unknown option in table", within(8, "colour = red"), "colour"),
            ("unknown option in allow", line(10, 'allow "root" { table = {"*"} }'), "table"),
            ("no value", (base[:-1] + ["user ="], len(base)), None),
            ("no equals sign", line(1, "user nobody"), None),
            ("word after a value", line(1, 'user = "nobody" nobody'), None),
            ("unended string", added('allow "daemon { tables = {"*"} }'), None),
            ("brace too many", added("}"), None),
            ("section without title", added('allow { tables = {"*"} }'), None),
            ("section without braces", added('table "hash:/x"'), None),
            ("unknown user", line(1, 'user = "no-such-user"'), "no-such-user"),
            ("root as user", line(1, 'user = "root"'), "root"),
            ("empty user", line(1, 'user = ""'), None),
            ("relative runtime-dir", line(2, 'runtime-dir = "run/x"'), "run/x"),
            ("empty runtime-dir", line(2, 'runtime-dir = ""'), None),
            (
                "runtime-dir in an open directory",
                line(2, f'runtime-dir = "{opened}/run"'),
                opened,
                start_only,
            ),
            ("relative libexec-dir", line(3, 'libexec-dir = "libexec"'), "libexec"),
            ("missing libexec-dir", line(3, f'libexec-dir = "{place}/none"'), "none"),
            ("relative socket", title(4, 6, 'listen "private/jailmap" {'), "private/jailmap"),
            ("empty socket", title(4, 6, 'listen "" {'), None),
            ("socket name too long", title(4, 6, f'listen "/var/lib/{"x" * 120}" {{'), "xxx"),
            (
                "socket in an open directory",
                title(4, 6, f'listen "{opened}/socket" {{'),
                opened,
                start_only,
            ),
            (
                "socket in a missing directory",
                title(4, 6, f'listen "{place}/none/socket" {{'),
                "none",
                start_only,
            ),
            ("the same socket twice", added(f'listen "{path}" {{ }}'), path),
            ("other protocol", within(4, "protocol = socketmap"), "socketmap"),
            ("unknown owner", within(4, "owner = no-such-user"), "no-such-user"),
            ("unknown group", within(4, "group = no-such-group"), "no-such-group"),
            ("mode with 8", within(5, "mode = 0888"), None),
            ("mode that is a word", line(5, "    mode = open"), "mode"),
            ("mode too large", line(5, "    mode = 010000"), None),
            ("backlog 0", within(4, "backlog = 0"), "backlog"),
            ("backlog negative", within(4, "backlog = -1"), "backlog"),
            ("backlog too large", within(4, "backlog = 65536"), "backlog"),
            ("backlog a word", within(4, "backlog = many"), "backlog"),
            ("max-request too small", within(4, "max-request = 4095"), "max-request"),
            ("max-request too large", within(4, "max-request = 1073741825"), "max-request"),
            ("max-request beyond numbers", within(4, "max-request = 99999999999999999999"), None),
            ("request-timeout 0", within(4, "request-timeout = 0"), "request-timeout"),
            ("request-timeout too large", within(4, "request-timeout = 86401"), "request-timeout"),
            ("workers 0", within(4, "workers = 0"), "workers"),
            ("workers 65", within(4, "workers = 65"), "workers"),
            ("clients-per-worker 0", within(4, "clients-per-worker = 0"), "clients-per-worker"),
            (
                "clients-per-worker 4097",
                within(4, "clients-per-worker = 4097"),
                "clients-per-worker",
            ),
            ("table without colon", added('table "aliases" { }'), "aliases"),
            ("table without type", added('table ":/etc/aliases" { }'), None),
            ("table without name", added('table "hash:" { }'), "hash:"),
            ("empty table", added('table "" { }'), None),
            ("unknown table type", added('table "frob:/etc/x" { }'), "frob"),
            ("upper-case table type", added('table "HASH:/etc/x" { }'), "HASH"),
            ("relative table", added('table "hash:aliases" { }'), "aliases"),
            ("unknown unix table", added('table "unix:shadow.byname" { }'), "shadow"),
            ("the same table twice", added(f'table "{users}" {{ }}'), users),
            ("unknown reveal", within(8, "reveal = some"), "some"),
            ("unknown table owner", within(8, "owner = no-such-user"), "no-such-user"),
            (
                "unknown allowed user",
                added('allow "no-such-user" { tables = {"*"} }'),
                "no-such-user",
            ),
            ("empty allowed user", added('allow "" { tables = {"*"} }'), None),
            ("uid beyond uids", added('allow "4294967296" { tables = {"*"} }'), "4294967296"),
            (
                "allowed table not declared",
                added('allow "daemon" { tables = {"hash:/not/declared"} }'),
                "/not/declared",
            ),
            ("the same user twice", added('allow "root" { tables = {"*"} }'), "root"),
            ("the same user by name and number", added('allow "0" { tables = {"*"} }'), "0"),
            ("tables not a list", added('allow "daemon" { tables = "*" { } }'), None),
        ]
        for name, (lines, number), word, *how in cases:
            with self.subTest(name):
                file = workspace().write(self.directory, "bad.conf", "\n".join(lines) + "\n")
                for options in how[0] if how else checks:
                    code, errors = self.jailmapd_exits(file, *options)
                    self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                    match = re.match(rf"{re.escape(file)}:(\d+):\d+: \S", errors)
                    self.assertTrue(match, errors)
                    self.assertIn(
                        int(match.group(1)),
                        number if isinstance(number, range) else [number],
                        errors,
                    )
                    self.assertIn(word or "", errors.partition(": ")[2])
                self.assertFalse(os.path.exists(path))
                left = os.listdir(runtime) if os.path.isdir(runtime) else []
                shutil.rmtree(runtime, ignore_errors=True)
                # Where the error shows only when the socket is made, the directory of the jail may
                # be there already.
                self.assertIn(left, ([], ["empty"]) if how else ([],))
        for name, text in (
            ("unended section", "\n".join(base[:-1]) + '\nallow "root" { tables = {"*"}\n'),
            ("no listen", "\n".join(base[:3] + base[6:]) + "\n"),
            ("empty file", ""),
            ("binary", "\x01\x02\xff\n" * 3),
        ):
            with self.subTest(name):
                file = workspace().write(self.directory, "bad.conf", text)
                code, errors = self.jailmapd_exits(file, "-n")
                self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                self.assertRegex(errors, rf"^{re.escape(file)}(:\d+:\d+)?: \S")
        # With nothing wrong it is the same file that starts.
        file = workspace().write(self.directory, "good.conf", "\n".join(base) + "\n")
        self.assertEqual(self.jailmapd_exits(file, "-n"), (0, ""))

    def test_include(self):
        """The fragments of a directory beside the file are read as if they stood where it is named;
        one that is missing, a link, or somebody else's is refused with the place of the include, and
        a mistake in a fragment with its own."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(start=False)
        directory = os.path.join(daemon.directory, "conf.d")
        with open(daemon.config, "a", encoding="utf-8") as file:
            file.write('\ninclude "conf.d"\n')
        number = len(proc.read(daemon.config).splitlines())

        def refused(reason):
            for option in ("-n", "-f"):
                code, errors = self.jailmapd_exits(daemon.config, option)
                self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                self.assertIn(reason, errors)

        refused(f'{daemon.config}:{number}:1: include "conf.d": {directory}: No such file')
        os.mkdir(directory)
        os.chmod(directory, 0o777)
        refused(f"{daemon.config}:{number}:1: include")
        os.chmod(directory, 0o755)
        workspace().write(directory, "20-allow.conf", f'allow "daemon" {{ tables = {{"{table}"}} }}\n')
        refused(f'{directory}/20-allow.conf:1:28: allow "daemon" names table "{table}"')
        fragment = workspace().write(directory, "10-table.conf", f'\ntable "{table}" {{ }}\n')
        os.chown(fragment, ALICE, 0)
        refused(f"{daemon.config}:{number}:1: {fragment} is not read: ")
        os.chown(fragment, 0, 0)
        os.symlink(fragment, os.path.join(directory, "30-link.conf"))
        refused(f"{daemon.config}:{number}:1: {directory}/30-link.conf is not read: ")
        os.unlink(os.path.join(directory, "30-link.conf"))
        workspace().write(directory, "30-not-read.conf.bak", "nonsense")
        daemon.start()
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))

    def test_check_with_failing_table(self):
        """-n takes a table that cannot be loaded now for a warning: exit 0."""
        daemon = self.jailmapd([self.table("missing"), "unix:passwd.byname"], start=False)
        code, errors = self.jailmapd_exits(daemon.config, "-n")
        self.assertEqual(code, 0, errors)
        self.assertFalse(os.path.exists(daemon.socket))

    def test_environment_is_not_read(self):
        """Variables of the environment are not expanded in the configuration: it names a user."""
        daemon = self.jailmapd(start=False)
        text = proc.read(daemon.config).replace('user = "nobody"', 'user = "${WHO}"')
        workspace().write(daemon.directory, "jailmapd.conf", text)
        code, errors = self.jailmapd_exits(daemon.config, "-n", WHO="nobody")
        self.assertEqual(code, 78, errors)
