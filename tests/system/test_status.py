"""`jailmap status`: what it counts, whom it answers, and that it does whatever the workers do."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import termios

import harness
import nameservice
import proc
import protocol
from harness import entries, workspace
from protocol import DENY, NOKEY, OK, RETRY, o_lookup, reply
from table_case import TableCase
from waiting import wait_for

ALICE, BOB, GROUP = 1, 2, 4711
SOCKET = "control.status"
METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)')


def connect(daemon):
    """A connection to the control socket, on which the answer comes by itself."""
    asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asker.settimeout(60)
    place = os.open(daemon.runtime, os.O_PATH | os.O_DIRECTORY)
    try:
        asker.connect(f"/proc/self/fd/{place}/{SOCKET}")
    finally:
        os.close(place)
    return asker


def received(asker):
    """All that comes until the end."""
    parts = []
    while part := asker.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def ask_as(daemon, uid, gid, groups=()):
    """(exit status, stdout, stderr) of `jailmap status` as another user."""
    options = [f"--reuid={uid}", f"--regid={gid}"]
    options += [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    command = [workspace().jailmap, "status", "-d", daemon.runtime]
    return harness.run(["setpriv", *options, *command])


def metrics(text):
    """{(name, ((label, value), ...)): number} of a page for Prometheus, with every rule checked
    that promtool has: HELP and TYPE once and first, families together, no sample twice, names and
    labels well-formed, histograms that only grow and whose last bucket is their count."""
    types, helps, found, current, done = {}, set(), {}, None, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helps and line.split(" ", 3)[3], line
            helps.add(name)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helps and name not in types, line
            assert kind in ("counter", "gauge", "histogram"), line
            assert kind != "counter" or name.endswith("_total"), line
            types[name] = kind
            done.add(current)
            current = name
            assert current not in done, line
            continue
        match = METRIC.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in types else name
        assert family == current and (name == family) == (types[family] != "histogram"), line
        pairs = tuple(LABEL.findall(labels or ""))
        assert ",".join(f'{key}="{text}"' for key, text in pairs) == (labels or ""), line
        key = name, pairs
        assert key not in found, line
        found[key] = float(value)
    check_histograms(found, types)
    return found


def check_histograms(found, types):
    for family in [name for name, kind in types.items() if kind == "histogram"]:
        series = {}
        for (name, pairs), value in found.items():
            if name == family + "_bucket":
                bound = float(dict(pairs)["le"])
                series.setdefault(pairs[:-1], []).append((bound, value))
        for pairs, buckets in series.items():
            assert buckets == sorted(buckets), (family, pairs)
            counts = [count for _, count in buckets]
            assert counts == sorted(counts), (family, pairs, counts)
            assert buckets[-1][0] == float("inf"), (family, pairs)
            assert found[family + "_count", pairs] == counts[-1], (family, pairs)
            assert (family + "_sum", pairs) in found


class StatusCase(harness.Case):
    def compartment(self, daemon, uid):
        """What is said of a user's clients."""
        return next(found for found in daemon.facts()["compartments"] if found["uid"] == uid)

    def patient_client(self, daemon):
        """A client of a worker that starts when the ones before it have died: that waits a bit."""

        def connected():
            try:
                return self.client(daemon)
            except protocol.Closed:
                return None

        return wait_for(connected, "a client to be taken")

    def counts(self, daemon, table):
        facts = daemon.table_facts(table)
        self.assertEqual(facts["lookups"], facts["hits"] + facts["misses"] + facts["errors"])
        return facts["hits"], facts["misses"], facts["errors"]


class CountersTest(StatusCase):
    """What is counted."""

    def test_exact(self):
        """After a known sequence of lookups every number is exact: hits, misses and errors of each
        table, an agent's and a failing one's among them, and of each user requests and denials."""
        one, two = self.table("one", entries(10)), self.table("two", entries(10))
        missing, users = f"hash:{self.path('missing')}", "unix:passwd.byname"
        daemon = self.jailmapd(
            [one, two, missing, users],
            start=False,
            allow={str(ALICE): [one, two, missing, users], str(BOB): [one]},
        )
        daemon.start(wrap=nameservice.switched())
        alice, bob = self.client(daemon, uid=ALICE), self.client(daemon, uid=BOB)
        for number in range(7):
            self.assertEqual(alice.lookup(one, f"key{number}")[0], OK)
        for number in range(3):
            self.assertEqual(alice.lookup(two, f"none{number}")[0], NOKEY)
        for _ in range(2):
            self.assertEqual(alice.lookup(missing, "key")[0], RETRY)
        for name, status in (
            ("root", OK),
            ("nss-user-1", OK),
            ("nss-absent", NOKEY),
            ("fault-tryagain", RETRY),
        ):
            self.assertEqual(alice.lookup(users, name)[0], status)
        self.assertEqual(bob.lookup(one, "key1")[0], OK)
        self.assertEqual(bob.lookup(two, "key1")[0], DENY)
        self.assertEqual(bob.open(one)[0], OK)
        self.assertEqual(self.counts(daemon, one), (8, 0, 0))
        self.assertEqual(self.counts(daemon, two), (0, 3, 0))
        self.assertEqual(self.counts(daemon, missing), (0, 0, 2))
        self.assertEqual(self.counts(daemon, users), (2, 1, 1))
        numbers = {
            uid: [
                self.compartment(daemon, uid)[key]
                for key in ("requests", "denied", "hits", "misses", "errors", "clients", "workers")
            ]
            for uid in (ALICE, BOB)
        }
        self.assertEqual(numbers, {ALICE: [16, 0, 9, 4, 3, 1, 1], BOB: [3, 1, 1, 0, 0, 1, 1]})
        self.assertEqual(daemon.facts()["others"], {"hits": 0, "misses": 0, "errors": 0})
        (agent,) = daemon.facts()["agents"]
        self.assertEqual((agent["table"], [agent["pid"]]), (users, daemon.wait_roles("agent")))
        self.assertEqual((agent["running"], agent["started"]), (1, 1))

    def test_times(self):
        """A lookup whose agent takes its time is in the histogram where it belongs: an answer that
        took at least a fifth of a second is in no bucket below that."""
        users = "unix:passwd.byname"
        daemon = self.jailmapd([users], start=False)
        daemon.start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(users, "nss-user-1")[0], OK)
        (agent,) = daemon.wait_roles("agent")
        harness.kill(agent, signal.SIGSTOP)
        client.send(o_lookup(users, "nss-user-2"))
        # The clock that this waits for is the one that is tested.
        wait_for(lambda: proc.stat_fields(agent)[0] == "T", "the agent to stop")
        self.assertEqual(select.select([client.socket], [], [], 0.25)[0], [])
        harness.kill(agent, signal.SIGCONT)
        client.receive()
        facts = daemon.table_facts(users)
        self.assertEqual(facts["hits"], 2)
        self.assertGreaterEqual(facts["p99"], 0.2)
        self.assertGreaterEqual(facts["seconds"], 0.2)
        slow = {
            float(dict(pairs)["le"]): value
            for (name, pairs), value in metrics(daemon.status("--prometheus")[1]).items()
            if name == "jailmap_lookup_duration_seconds_bucket"
        }
        self.assertEqual({value for bound, value in slow.items() if bound < 0.2} - {0, 1}, set())

    def test_replaced(self):
        """Nothing that was counted is lost when a worker is replaced after max-use."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table], socket_options={"max-use": 3})
        for number in range(1, 21):
            with daemon.client() as client:
                self.assertEqual(client.lookup(table, "key1")[0], OK)
            self.assertEqual(self.counts(daemon, table), (number, 0, 0))
        facts = self.compartment(daemon, 0)
        self.assertEqual((facts["requests"], facts["hits"], facts["misses"]), (20, 20, 0))

    def test_killed(self):
        """Nothing that was counted is lost when a worker is killed."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table])
        for number in range(1, 6):
            client = self.patient_client(daemon)
            self.assertEqual(client.lookup(table, "none")[0], NOKEY)
            mark = daemon.mark()
            (worker,) = daemon.roles()["worker"]
            harness.kill(worker)
            daemon.wait_log(rf"worker pid {worker} ", since=mark)
            self.assertEqual(self.counts(daemon, table), (0, number, 0))
        self.assertEqual(self.compartment(daemon, 0)["requests"], 5)

    def test_handed_back(self):
        """Connections that go on in the next worker are counted on there: the sum is exact."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table], socket_options={"max-use": 2, "workers": 2})
        clients = [self.client(daemon) for _ in range(6)]
        for _ in range(30):
            for client in clients:
                self.assertEqual(client.lookup(table, "key1")[0], OK)
        wait_for(lambda: self.counts(daemon, table) == (180, 0, 0), "all lookups to be counted")

    def test_census_killed(self):
        """A census that is killed is followed by another, which has what the living workers have
        counted; nobody else notices."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        for _ in range(5):
            self.assertEqual(client.lookup(table, "key1")[0], OK)
        for round_ in range(2):
            (census,) = daemon.wait_roles("census")
            mark = daemon.mark()
            harness.kill(census)
            daemon.wait_log(
                rf"census pid {census} died: signal 9; what workers counted", since=mark
            )
            self.assertEqual(client.lookup(table, "key1")[0], OK)
            wait_for(
                lambda want=(6 + round_, 0, 0): self.counts(daemon, table) == want,
                "the next census to know what was counted",
            )
        facts = daemon.facts()
        self.assertEqual(
            (facts["tables"][0]["state"], facts["workers"][0]["clients"]), ("current", 1)
        )


class CrewsTest(TableCase):
    """Tables that several agents answer, or workers alone."""

    def test_crew(self):
        """The agents of a table are counted in every form. With a source that cannot be read anew
        the table is stale, and answers as before. A table without agents is a worker's."""
        drawn = "randmap:{one}"
        rules = f"pcre:{self.put('rules', '/^key$/ value' + chr(10))}"
        daemon = self.jailmapd([(rules, {"processes": 3}), drawn])
        client = self.client(daemon)
        self.settle([client], rules, {"key": b"value"})
        self.assertEqual(client.lookup(drawn, "key", 0)[0], OK)
        wait_for(lambda: daemon.facts()["agents"][0]["running"] == 3, "three agents to run")
        (agents,) = daemon.facts()["agents"]
        self.assertEqual((agents["table"], agents["started"]), (rules, 3))
        self.assertIn(agents["pid"], daemon.wait_roles("pattern", 3))
        self.assertRegex(daemon.status()[1], rf"(?m)^{re.escape(rules)} +running .* 3 +3$")
        samples = metrics(daemon.status("--prometheus")[1])
        self.assertEqual(samples["jailmap_agents_running", (("table", rules),)], 3)
        by = {table["name"]: table["answered-by"] for table in daemon.facts()["tables"]}
        self.assertEqual(by, {rules: "agent", drawn: "worker"})
        self.put("rules", "")

        def table():
            return next(one for one in daemon.facts()["tables"] if one["name"] == rules)

        wait_for(lambda: table()["state"] != "current", "the empty file to be seen")
        self.assertEqual((table()["state"], table()["generation"]), ("stale", 1))
        self.assertIn("the file is empty", table()["why"])
        self.assertEqual(client.lookup(rules, "key", 0), (OK, b"value"))


class AskersTest(StatusCase):
    """Who asks, and who is answered."""

    def test_who(self):
        """Root and members of control-group are answered, by their first group or another; anybody
        else is refused, told so, and logged; and without control-group root alone."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], start=False)
        with open(daemon.config, "a", encoding="ascii") as config:
            config.write(f'control-group = "{GROUP}"\n')
        daemon.start()
        wait_for(lambda: daemon.status()[0] == 0, "the table to be loaded")
        self.assertEqual(ask_as(daemon, ALICE, GROUP)[0], 0)
        self.assertEqual(ask_as(daemon, ALICE, BOB, [3, GROUP, 9])[0], 0)
        mark = daemon.mark()
        code, out, errors = ask_as(daemon, ALICE, BOB, [3, 9])
        self.assertEqual((code, out), (77, ""))
        self.assertEqual(
            errors,
            f"jailmap: {daemon.runtime}/{SOCKET}: root may, and members of control-group\n",
        )
        daemon.wait_log(rf"warning: refused {SOCKET} to uid {ALICE} pid \d+: root may", since=mark)
        other = self.jailmapd([table])
        self.assertEqual(ask_as(other, ALICE, GROUP, [GROUP])[0], 77)
        wait_for(lambda: other.status()[0] == 0, "root to be answered")

    def test_refusals_are_few_lines(self):
        """Whoever knocks all the time fills no log: what is held back is counted."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        script = (
            "import os, socket, sys\n"
            f"os.setgid({BOB}); os.setuid({ALICE})\n"
            f"os.chdir({daemon.runtime!r})\n"
            "for _ in range(200):\n"
            "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"    s.connect({SOCKET!r})\n"
            "    assert s.recv(1000).startswith(b'refused: '), 1\n"
            "    assert s.recv(1000) == b'', 2\n"
        )
        code, _, errors = harness.run(["/usr/bin/python3", "-c", script])
        self.assertEqual((code, errors), (0, ""))
        self.assertLessEqual(len(re.findall("refused control.status", daemon.log())), 60)
        daemon.wait_log(r"\d+ more refusals on control sockets")
        self.assertEqual(self.client(daemon).lookup(f"hash:{self.path('a')}", "key")[0], OK)

    def test_does_not_read(self):
        """Sixteen who ask and do not read cost nobody anything: clients are served, the seventeenth
        is told to come again, and when their time is over they are dropped and others answered."""
        # Far more text than the kernel keeps for a connection.
        tables = [f"hash:/nowhere{('/' + 'x' * 200) * 10}/{number}" for number in range(300)]
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table, *tables])
        client = self.client(daemon)
        wait_for(lambda: len(daemon.facts()["tables"]) == 301, "all tables to be known")
        askers = [connect(daemon) for _ in range(16)]
        for asker in askers:
            self.addCleanup(asker.close)
        with contextlib.closing(connect(daemon)) as late:
            self.assertIn(b"try again\n", received(late))
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        # The tool comes again by itself; the kernel has what fits, and then there is an end.
        self.assertEqual(
            wait_for(lambda: daemon.status()[0] == 1, "the others to be dropped"), True
        )
        # The first had come first, and the others may still have had time to read.
        self.assertNotIn(b"\nend\n", received(askers[0]))
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))

    def test_workers_stopped(self):
        """Status is answered while every worker is stopped and has requests waiting, and what they
        counted before is in it."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        for _ in range(4):
            self.assertEqual(client.lookup(table, "key1")[0], OK)
        workers = daemon.roles()["worker"]
        for worker in workers:
            harness.kill(worker, signal.SIGSTOP)
        try:
            client.send(o_lookup(table, "key1", 64) * 50)
            self.assertEqual(self.counts(daemon, table), (4, 0, 0))
        finally:
            for worker in workers:
                harness.kill(worker, signal.SIGCONT)
        for _ in range(50):
            self.assertEqual(client.receive(), reply("status", OK, "value", "value1"))
        self.assertEqual(self.counts(daemon, table), (54, 0, 0))

    def test_census_stopped(self):
        """A census that is stopped holds up nobody: clients are served, and as it does not read what
        it is told, it is replaced."""
        table = self.table("a", entries(10))
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        (census,) = daemon.wait_roles("census")
        harness.kill(census, signal.SIGSTOP)
        mark = daemon.mark()
        with daemon.client() as other:
            self.assertEqual(other.lookup(table, "key1")[0], OK)
        self.assertEqual(client.lookup(table, "key1")[0], OK)
        daemon.wait_log(rf"census pid {census} died: it does not read its messages", since=mark)
        wait_for(lambda: sum(self.counts(daemon, table)) == 2, "the next census to count")

    def test_socket_gone(self):
        """The control socket is everybody's to connect to and root's otherwise; a stale one of a
        monitor that was killed is replaced."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        info = os.stat(os.path.join(daemon.runtime, SOCKET))
        self.assertEqual((info.st_uid, info.st_mode & 0o777), (0, 0o666))
        daemon.process.kill()
        harness.wait_exit(daemon.process, "the monitor to end")
        self.assertEqual(daemon.status()[0], 69)
        daemon.process = None
        daemon.start()
        wait_for(lambda: daemon.status()[0] == 0, "the next daemon to be asked")


class FormsTest(StatusCase):
    """The ways in which it is shown."""

    def setUp(self):
        super().setUp()
        self.good = self.table("good", entries(10))
        self.odd = 'static:{a "b" c\\d}'
        self.daemon = self.jailmapd([self.good, "unix:passwd.byname", self.odd], start=False)
        self.daemon.start(wrap=nameservice.switched())
        wait_for(lambda: self.daemon.status()[0] == 0, "all tables to be loaded")
        self.client_ = self.client(self.daemon)
        for key in ("key1", "key2", "none"):
            self.client_.lookup(self.good, key)

    def test_page(self):
        """The page has a line for each listener, user and table, in aligned columns, with limits
        and numbers; on no terminal there is no colour."""
        code, out, errors = self.daemon.status()
        self.assertEqual((code, errors), (0, ""))
        self.assertNotIn("\033", out)
        blocks = [block.splitlines() for block in out.strip("\n").split("\n\n")]
        self.assertEqual(
            [block[0].split()[0] for block in blocks],
            ["jailmapd", "LISTENER", "USER", "TABLE", "AGENT"],
        )
        for block in blocks[1:]:
            columns = {len(re.split(r"  +", line)) for line in block}
            self.assertEqual(len(columns), 1, block)
            self.assertGreaterEqual(columns.pop(), 5)
        self.assertRegex(blocks[1][1], rf"^{re.escape(self.daemon.socket)} +1 +1 ")
        self.assertRegex(blocks[2][1], r"^root +0 .* 1/\d+ +1/\d+ +3 +0 +2 +1 +0 +0 +no$")
        self.assertRegex(
            blocks[3][1],
            rf"^{re.escape(self.good)} +current +\d{{4}}-\S+ \S+ +1 +10 .* 3 +2 +1 +0 +0 +\S+s +\S+s +"
            "image$",
        )
        (agent,) = self.daemon.wait_roles("agent")
        self.assertRegex(
            blocks[4][1], rf"^unix:passwd\.byname +running +\d{{4}}-\S+ \S+ +{agent} +1 +1$"
        )

    def test_json(self):
        """--json is one valid object with the same numbers."""
        code, out, errors = self.daemon.status("--json")
        self.assertEqual((code, errors), (0, ""))
        facts = json.loads(out)
        self.assertEqual(facts["pid"], self.daemon.pid)
        self.assertEqual(facts["configuration"]["failure"], None)
        self.assertEqual(facts["listeners"][0]["path"], self.daemon.socket)
        self.assertEqual([t["lookups"] for t in facts["tables"]], [3, 0, 0])
        self.assertEqual(
            facts["tables"][2]["name"], self.odd.replace("\\", "\\\\").replace('"', '\\"')
        )
        self.assertEqual([w["pid"] for w in facts["workers"]], self.daemon.roles()["worker"])

    def test_prometheus(self):
        """--prometheus is well-formed by every rule of its format, labels with quotes and
        backslashes in them too, and has the same numbers."""
        code, out, errors = self.daemon.status("--prometheus")
        self.assertEqual((code, errors), (0, ""))
        found = metrics(out)
        good = ("table", self.good)
        self.assertEqual(found["jailmap_lookups_total", (good, ("result", "hit"))], 2)
        self.assertEqual(found["jailmap_lookups_total", (good, ("result", "miss"))], 1)
        self.assertEqual(found["jailmap_lookup_duration_seconds_count", (good,)], 3)
        self.assertEqual(found["jailmap_table_state", (good, ("state", "current"))], 1)
        self.assertEqual(found["jailmap_config_last_reload_successful", ()], 1)
        names = {dict(pairs).get("table") for _, pairs in found}
        written = self.odd.replace("\\", "\\\\").replace('"', '\\"')
        self.assertIn(written.replace("\\", "\\\\").replace('"', '\\"'), names)

    def test_watch(self):
        """--watch on a terminal shows the page again and again in its place, with colours unless
        NO_COLOR is set, and gives the terminal back when it is interrupted."""
        for environment, colours in (({}, True), ({"NO_COLOR": "1"}, False)):
            own, theirs = pty.openpty()
            fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
            process = harness.start(
                [workspace().jailmap, "status", "-d", self.daemon.runtime, "--watch=1"],
                stdout=theirs,
                env={"PATH": harness.PATH, **environment},
            )
            os.close(theirs)
            seen = b""
            while seen.count(b"\033[H") < 3:
                seen += os.read(own, 65536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):
                while part := os.read(own, 65536):
                    seen += part
            os.close(own)
            self.assertEqual(harness.wait_exit(process, "the tool to end"), -signal.SIGINT)
            self.assertTrue(seen.startswith(b"\033[?1049h\033[?25l"))
            self.assertTrue(seen.endswith(b"\033[?25h\033[?1049l"), seen[-40:])
            self.assertEqual(b"\033[32mcurrent\033[0m" in seen, colours)

    def test_options(self):
        """Wrong options end with 64 and say what is expected."""
        for wrong in (["--watch=0"], ["--watch=x"], ["--json", "--prometheus"], ["extra"], ["-x"]):
            code, out, errors = self.daemon.status(*wrong)
            self.assertEqual((code, out), (64, ""), wrong)
            self.assertIn("usage: jailmap status", errors)
