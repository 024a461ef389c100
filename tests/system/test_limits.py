"""Limits and bad surroundings: what is bounded, counted or undone, so that no user, no table and no
stopped helper takes the service from the others.

Runs as root inside tests/system/run, against daemons of its own in private directories. It stops,
continues and kills only processes of this run, by pid, and lowers limits only in processes that it
starts. It must never leave one of them stopped: every daemon ends with its test.
"""

import contextlib
import os
import re
import resource
import signal
import stat
import struct
import threading
import time

import harness
import nameservice
import proc
import protocol
from harness import entries, workspace
from protocol import OK, NOKEY, RETRY, Closed, o_lookup, reply
from waiting import wait_for

ALICE, BOB = 1, 2
USERS = "unix:passwd.byname"
MANY = 20_000  # Uids from here on belong to nobody; the kernel lets root be any of them.
STRANGERS_MOST = 8  # workers of uids that no allow section names
IMAGE_MIN, IMAGE_RATIO = 64 << 20, 16


def refusals(log):
    """(lines, clients) of a whole log: how many lines tell of refused clients, and how many clients
    they tell of."""
    single = len(re.findall(r"warning: refused client uid \d+ pid \d+ on ", log))
    counts = re.findall(r"warning: (\d+) more clients refused for u(?:id \d+ on|sers whom) ", log)
    return single + len(counts), single + sum(int(count) for count in counts)


class LimitsCase(harness.Case):
    """A test that can stop processes and look at workers by the uid that they serve."""

    def state(self, pid):
        """The kernel's letter for what a process does; it must be there."""
        self.assertTrue(proc.alive(pid), f"pid {pid} has ended")
        return (proc.stat_fields(pid) or "X")[0]

    def pause(self, pid):
        """Stops a process, and returns when it has stopped."""
        harness.kill(pid, signal.SIGSTOP)
        wait_for(lambda: self.state(pid) == "T", f"pid {pid} to stop")

    def resume(self, pid):
        """Lets a stopped process go on, and returns when it does."""
        harness.kill(pid, signal.SIGCONT)
        wait_for(lambda: self.state(pid) != "T", f"pid {pid} to go on")

    def worker_of(self, daemon, uid):
        """Pid of the one worker that serves a uid."""
        start = f"jailmap-worker: uid {uid} on "

        def look():
            pids = [
                pid
                for pid in daemon.roles()["worker"]
                if (proc.arguments(pid) or [""])[0].startswith(start)
            ]
            return pids[0] if len(pids) == 1 else None

        return wait_for(look, f"the worker of uid {uid}")

    def refused(self, daemon, uid=None):
        """Connects; True if the connection is closed instead of being greeted."""
        with protocol.Client(daemon.socket, uid=uid, greeting=False) as client:
            try:
                self.assertEqual(client.receive(), protocol.GREETING)
            except Closed:
                return True
            return False


class AgentTest(LimitsCase):
    """The name service agent is slow, or dies, while it is asked for names that /etc/passwd does
    not have."""

    def setUp(self):
        super().setUp()
        self.names = [f"nss-user-{number}" for number in range(1, 7)] + ["no-such-user"]

    def jailmapd(self, *arguments, **options):
        """With a name service that knows those names."""
        daemon = super().jailmapd(*arguments, start=False, **options)
        return daemon.start(wrap=nameservice.switched())

    def answers(self, client):
        """name -> raw answer, asked one at a time of an agent that works."""
        found = {name: client.ask(o_lookup(USERS, name, 64)) for name in self.names}
        for number, name in enumerate(self.names[:-1], 1):
            self.assertEqual(found[name], reply("status", OK, "value", nameservice.user(number)))
        self.assertEqual(found["no-such-user"], reply("status", NOKEY, "value", ""))
        return found

    def test_late_answer(self):
        """Answers of an agent that was stopped reach those who asked, in order; one whose client
        has left reaches nobody."""
        daemon = self.jailmapd([USERS])
        client = self.client(daemon)
        right = self.answers(client)
        (agent,) = daemon.wait_roles("agent")
        for first in range(len(self.names)):
            turn = self.names[first:] + self.names[:first]
            self.pause(agent)
            gone = daemon.client()
            gone.send(o_lookup(USERS, turn[1], 64))
            gone.drained()
            gone.close()
            other = self.client(daemon)  # comes to the place of the one who left
            for asker, names in ((client, turn), (other, turn[::-1])):
                asker.send(b"".join(o_lookup(USERS, name, 64) for name in names))
            self.resume(agent)
            for asker, names in ((client, turn), (other, turn[::-1])):
                for name in names:
                    self.assertEqual(asker.receive(), right[name], name)
            other.close()
        self.assertEqual(daemon.wait_roles("agent"), [agent])

    def test_answer_after_its_time(self):
        """An answer that comes after answer-timeout, when its client has had RETRY and asked for
        something else, is not taken for the answer to that."""
        daemon = self.jailmapd([USERS], socket_options={"answer-timeout": 1})
        client = self.client(daemon)
        right, retry = self.answers(client), reply("status", RETRY, "value", "")
        (agent,) = daemon.wait_roles("agent")
        for late in self.names:
            self.pause(agent)
            client.send(o_lookup(USERS, late, 64))
            self.assertEqual(client.receive(), retry, late)
            rest = [name for name in self.names if name != late]
            client.send(b"".join(o_lookup(USERS, name, 64) for name in rest))
            self.resume(agent)
            for name in rest:
                self.assertIn(client.receive(), (retry, right[name]), name)

    def check_all(self, clients, right, retry):
        """Every pipelined lookup has its own answer or a temporary error; the first, that one."""
        for client in clients:
            for number, name in enumerate(self.names * 3):
                found = client.receive()
                self.assertIn(found, (retry,) if number == 0 else (retry, right[name]), name)

    def test_agent_killed_while_asked(self):
        """An agent is killed that owes answers: who asked gets RETRY, what follows is RETRY or
        right, and no answer is another's."""
        daemon = self.jailmapd([USERS])
        clients = [self.client(daemon) for _ in range(4)]
        right, retry = self.answers(clients[0]), reply("status", RETRY, "value", "")
        for _ in range(3):
            (agent,) = daemon.wait_roles("agent")
            self.pause(agent)
            for client in clients:
                client.send(b"".join(o_lookup(USERS, name, 64) for name in self.names * 3))
                client.drained()
            harness.kill(agent)
            self.check_all(clients, right, retry)
            for client in clients:
                for name in self.names:
                    wait_for(
                        lambda client=client, name=name: (
                            lambda found: self.assertIn(found, (right[name], retry))
                            or found == right[name]
                        )(client.ask(o_lookup(USERS, name, 64))),
                        f"{name} to be found again",
                    )

    def test_relink(self):
        """A worker that learns of the next agent before it learns of the last one's death answers
        everything that it was asked, in order."""
        daemon = self.jailmapd([USERS], allow={"root": ["*"], str(ALICE): ["*"]})
        clients = [self.client(daemon) for _ in range(4)]
        right, retry = self.answers(clients[0]), reply("status", RETRY, "value", "")
        alice = self.client(daemon, uid=ALICE)
        name, found = self.names[0], (OK, nameservice.user(1))
        self.assertEqual(alice.lookup(USERS, name), found)
        worker = self.worker_of(daemon, 0)
        (agent,) = daemon.wait_roles("agent")
        self.pause(agent)
        for client in clients:
            client.send(b"".join(o_lookup(USERS, name, 64) for name in self.names * 3))
            client.drained()
        self.pause(worker)
        # The bridge becomes readable before the link ends, so it is what the worker reads first.
        late = self.client(daemon, greeting=False)
        harness.kill(agent)
        wait_for(lambda: agent not in daemon.roles()["agent"], "the agent to end")
        self.eventually(alice, USERS, name, found)  # so the worker has been told of the next one
        self.resume(worker)
        self.assertEqual(late.receive(), protocol.GREETING)
        self.check_all(clients, right, retry)
        for client in (*clients, late):
            self.eventually(client, USERS, name, found)
        self.assertEqual(self.worker_of(daemon, 0), worker)

    def test_agent_and_worker_stopped(self):
        """SIGSTOP and SIGCONT of an agent and of a worker: both live on and answer."""
        daemon = self.jailmapd([USERS])
        client = self.client(daemon)
        right = self.answers(client)
        (agent,) = daemon.wait_roles("agent")
        for pid in (agent, self.worker_of(daemon, 0)) * 3:
            self.pause(pid)
            self.resume(pid)
            self.assertEqual(self.answers(client), right)
        self.assertNotIn(" died: ", daemon.log())


class WorkersTest(LimitsCase):
    """Many users, and workers that die: the others keep their places."""

    def test_strangers(self):
        """Users whom no allow section names get 8 workers and no more; a further one is refused
        with a line, and whom a section names is served."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={"root": ["*"], str(ALICE): ["*"]})
        strangers = range(MANY, MANY + STRANGERS_MOST)
        inside = {uid: self.client(daemon, uid=uid) for uid in strangers}
        for uid in (MANY + 100, MANY + 101):
            mark = daemon.mark()
            self.assertTrue(self.refused(daemon, uid))
            daemon.wait_log(
                rf"warning: refused client uid {uid} pid \d+ on {daemon.socket}: "
                r"too many users whom no allow section names",
                since=mark,
            )
        for uid in (None, ALICE):
            self.assertEqual(self.client(daemon, uid=uid).lookup(table, "key"), (OK, b"value"))
        for client in inside.values():
            self.assertEqual(client.open(table)[0], protocol.DENY)
        self.assertEqual(len(daemon.roles()["worker"]), STRANGERS_MOST + 2)

    def test_idle_strangers_make_room(self):
        """Users whom no allow section names and who have left keep no other one out."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={"root": ["*"]})
        for uid in range(MANY, MANY + 3 * STRANGERS_MOST):
            with daemon.client(uid=uid, greeting=False) as client:
                try:
                    client.receive()
                except Closed:
                    self.fail(f"stranger {uid - MANY} is refused:\n{daemon.log()[-300:]}")
                self.assertEqual(client.open(table)[0], protocol.DENY)

    def test_refusals_are_counted(self):
        """400 refused connections, 200 of them of a user who has no worker, make few lines, which
        account for every one of them."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"workers": 1, "clients-per-worker": 1})
        inside = [self.client(daemon, uid=MANY + number) for number in range(STRANGERS_MOST)]
        inside.append(self.client(daemon))
        self.assertEqual(inside[-1].lookup(table, "key"), (OK, b"value"))
        for _ in range(200):
            self.assertTrue(self.refused(daemon))
            self.assertTrue(self.refused(daemon, uid=MANY + 100))
        self.assertEqual(inside[-1].lookup(table, "key"), (OK, b"value"))
        self.assertEqual(daemon.stop(), 0)
        lines, clients = refusals(daemon.log())
        self.assertEqual(clients, 400)
        self.assertLess(lines, 200)

    def test_workers_that_die(self):
        """A user's workers die again and again: the next one waits, with refusals that are counted;
        he is served in the end, and another user all the time."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={str(ALICE): ["*"], str(BOB): ["*"]})
        bob = self.client(daemon, uid=BOB)
        deaths, refused = 0, 0

        def one_more():
            nonlocal deaths, refused
            self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
            if self.refused(daemon, ALICE):
                refused += 1
            else:
                pid = self.worker_of(daemon, ALICE)
                harness.kill(pid)
                daemon.wait_log(rf"warning: worker pid {pid} for uid {ALICE} on .* died: signal 9")
                deaths += 1
            return deaths >= 8 and refused >= 1

        wait_for(one_more, "8 deaths, and a refusal because of them")
        self.assertRegex(daemon.log(), rf"refused client uid {ALICE} .*: its workers die; the next")

        def served():
            nonlocal refused
            with protocol.Client(daemon.socket, uid=ALICE, greeting=False) as client:
                try:
                    client.receive()
                except Closed:
                    refused += 1
                    return False
                return self.assertEqual(client.lookup(table, "key"), (OK, b"value")) or True

        wait_for(served, "the user whose workers died to be served")
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(refusals(daemon.log())[1], refused)
        self.assertEqual(len(re.findall(r"for uid 2 on .* died: ", daemon.log())), 0)

    def test_busy_pipelining(self):
        """A client whose writes always end within a request is not closed while its requests
        complete, however long it goes on."""
        table = self.table("a", "key value\n")
        limit = 1
        daemon = self.jailmapd([table], socket_options={"request-timeout": limit})
        request, answer = o_lookup(table, "key", 64), reply("status", OK, "value", "value")
        half = len(request) // 2

        def goes_on():
            """True after three time limits; None if this process itself was that slow once."""
            client = self.client(daemon)
            client.send(request[:half])
            began = last = time.monotonic()
            slow = 0.0
            while last - began < 3 * limit:
                try:
                    client.send((request * 3)[half : half - len(request)])
                    for _ in range(2):
                        self.assertEqual(client.receive(), answer)
                except (Closed, OSError):
                    slow = max(slow, time.monotonic() - last)
                    self.assertGreaterEqual(slow, limit / 2, "closed although it is not slow")
                    return None
                now = time.monotonic()
                slow, last = max(slow, now - last), now
            return True

        wait_for(goes_on, "a machine that is not too busy for this")


class SourceTest(LimitsCase):
    """Sources that are no good in a way that takes time or room."""

    def test_touched_all_the_time(self):
        """Sources that change all the time are reported; lookups get a temporary error or the last
        image meanwhile, and the content when it is left alone."""
        old, fresh = self.table("old", entries(20_000)), self.table("fresh", entries(20_000))
        hidden = self.path("fresh.db") + ".hidden"
        os.rename(self.path("fresh.db"), hidden)
        daemon = self.jailmapd([(table, {"load-time": 1}) for table in (old, fresh)])
        daemon.wait_log(rf'table "{old}" loaded: 20000 entries')
        daemon.wait_log(rf'table "{fresh}" failed: .*No such file')
        stop = threading.Event()

        def touch():
            while not stop.wait(0.001):
                for path in (self.path("old.db"), hidden, self.path("fresh.db")):
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path)

        toucher = threading.Thread(target=touch, daemon=True)
        self.addCleanup(stop.set)
        mark = daemon.mark()
        toucher.start()
        os.rename(hidden, self.path("fresh.db"))
        client = self.client(daemon)
        answer = (OK, b"value7")
        reason = "it changes while it is read|another process had it open for writing .*"
        daemon.wait_log(
            rf'table "{re.escape(fresh)}" (failed: ({reason}); lookups get|recovered)',
            since=mark,
        )
        daemon.wait_log(
            rf'table "{re.escape(old)}" (not reloaded: ({reason}); the image of generation 1 stays '
            r"in service|reloaded)",
            since=mark,
        )
        for _ in range(50):
            self.assertEqual(client.lookup(old, "key7"), answer)
            self.assertIn(client.lookup(fresh, "key7"), (answer, (RETRY, b"")))
        stop.set()
        toucher.join()
        self.table("old", entries(10, value="new"))
        self.eventually(client, fresh, "key7", answer)
        self.eventually(client, old, "key7", (OK, b"new7"), answer)

    def loop_leaves(self, path):
        """Makes the last leaf of a btree file be followed by the first. Returns how many it has."""
        with open(path, "r+b") as file:
            data = file.read()
            (size,) = struct.unpack_from("<I", data, 20)
            leaves = {}
            for at in range(size, len(data), size):
                number, before, after, _, _, _, kind = struct.unpack_from("<8xIIIHHBB", data, at)
                if kind == 5:
                    leaves[number] = before, after
            (first,) = (number for number, (before, _) in leaves.items() if before == 0)
            (last,) = (number for number, (_, after) in leaves.items() if after == 0)
            file.seek(last * size + 16)
            file.write(struct.pack("<I", first))
            return len(leaves)

    def test_endless_table(self):
        """A btree whose leaves go round in a circle is not walked for ever: it fails with a reason,
        keeps its last image, and others are served."""
        text = entries(400, value="v" * 500)
        table, other = self.table("loop", text, "btree"), self.table("b", "key value\n")
        fresh = self.table("fresh", text, "btree")
        self.assertGreater(self.loop_leaves(self.path("fresh.db")), 1)
        daemon = self.jailmapd([table, fresh, other])
        client = self.client(daemon)
        daemon.wait_log(rf'table "{table}" loaded: 400 entries')
        mark = daemon.mark()
        self.loop_leaves(self.path("loop.db"))
        daemon.wait_log(
            rf'table "{table}" not reloaded: damaged: .*; the image of generation 1 stays', since=mark
        )
        daemon.wait_log(rf'table "{fresh}" failed: damaged: .*; lookups get a temporary error')
        self.assertEqual(client.lookup(table, "key7")[0], OK)
        self.assertEqual(client.lookup(fresh, "key7"), (RETRY, b""))
        self.assertEqual(client.lookup(other, "key"), (OK, b"value"))
        self.table("fresh", text, "btree")
        self.eventually(client, fresh, "key7", (OK, b"v" * 500 + b"7"))

    def test_image_limit(self):
        """A loader may not write more than 64 MB and 16 times its source, or image-size."""
        tables = {
            self.slow_table("a"): None,
            self.slow_table("b", "key value\n"): 100,
        }
        daemon = self.jailmapd(
            [(table, {"image-size": size} if size else {}) for table, size in tables.items()]
        )
        for table, size in tables.items():
            daemon.wait_log(rf'table "{table}" loaded')
            limit = IMAGE_MIN + IMAGE_RATIO * os.path.getsize(table.partition(":")[2])
            loader = daemon.catch_loader(table)
            found = re.search(r"Max file size\s+(\d+)", proc.read(f"/proc/{loader}/limits"))
            self.assertEqual(int(found.group(1)), size << 20 if size else limit)
            harness.let_go(loader)


class StoppedTest(LimitsCase):
    """Helpers are stopped and continued while they wait inside a system call."""

    def test_scribe_stopped(self):
        """SIGSTOP and SIGCONT of the scribe: it lives on, and the log has what came meanwhile."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={"root": ["*"], str(ALICE): ["*"]})
        (scribe,) = daemon.wait_roles("scribe")
        for uid in (None, ALICE):
            self.pause(scribe)
            mark = daemon.mark()
            self.assertEqual(self.client(daemon, uid=uid).lookup(table, "key"), (OK, b"value"))
            self.resume(scribe)
            daemon.wait_log(rf'approved table "{table}" for uid {uid or 0} ', since=mark)
            # And without anything to write: it goes back to waiting.
            self.pause(scribe)
            self.resume(scribe)
            mark = daemon.mark()
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_log("SIGHUP", since=mark)
        self.assertEqual(daemon.wait_roles("scribe"), [scribe])
        self.assertNotIn("died", daemon.log())

    def test_loader_stopped(self):
        """SIGSTOP and SIGCONT of a loader at work, again and again: it lives on, and loads the
        table."""
        table = self.slow_table("a", "key value\n")
        daemon = self.jailmapd([(table, {"load-time": 3600})])

        def often():
            """True when one loader was stopped ten times more; it may be done before that."""
            loader = daemon.catch_loader(table)
            stops = 0
            with contextlib.suppress(ProcessLookupError):
                while stops < 10:
                    os.kill(loader, signal.SIGCONT)
                    time.sleep(0.0005)
                    os.kill(loader, signal.SIGSTOP)
                    wait_for(
                        lambda: (proc.stat_fields(loader) or "X")[0] in "TZX", "the loader to stop"
                    )
                    stops += proc.alive(loader)
                os.kill(loader, signal.SIGCONT)
            wait_for(lambda: proc.stat_fields(loader) is None, "the loader to end")
            return stops == 10

        wait_for(often, "a loader to be stopped ten times")
        daemon.wait_log(rf'table "{table}" (loaded|reloaded): 500001 entries, generation \d')
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))
        self.assertNotRegex(daemon.log(), r"sandbox|died|ended")


# Runs a program with something of its surroundings changed: argv is the program and its arguments.
SURROUNDINGS = "import os, resource, signal, sys; {}; os.execv(sys.argv[1], sys.argv[1:])"


def with_change(change):
    return ["/usr/bin/python3", "-c", SURROUNDINGS.format(change)]


def with_limit(which, value):
    return with_change(f"resource.setrlimit({which:d}, ({value}, {value}))")


IGNORE_CHILDREN = with_change("signal.signal(signal.SIGCHLD, signal.SIG_IGN)")


class SurroundingsTest(LimitsCase):
    """Whoever starts jailmapd leaves it signals, descriptors or limits that are not the usual
    ones."""

    def setUp(self):
        super().setUp()
        self.name = self.table("a", entries(500))

    def daemon(self, **options):
        return self.jailmapd([self.name, USERS], start=False, **options)

    def serves(self, daemon):
        """Both kinds of tables answer, and a worker that is killed is replaced."""

        def answers():
            with contextlib.suppress(Closed, OSError), daemon.client() as client:
                return (
                    client.lookup(self.name, "key7") == (OK, b"value7")
                    and client.lookup(USERS, "root")[0] == OK
                )
            return False

        wait_for(answers, "lookups to be answered")
        monitor = int(proc.read(os.path.join(daemon.runtime, "jailmapd.pid")))
        (worker,) = (pid for pid in proc.children(monitor) if proc.program(pid) == "jailmap-worker")
        harness.kill(worker)
        wait_for(lambda: proc.stat_fields(worker) is None, "the monitor to reap its worker")
        wait_for(answers, "lookups to be answered by the next worker")

    def both_ways(self, wrap, *, log=True):
        """Starts in the foreground and in the background, and looks whether it serves."""
        with self.subTest("foreground"):
            daemon = self.daemon()
            daemon.start(wrap=wrap, ready=log)
            wait_for(lambda: os.path.exists(daemon.socket), "the socket")
            self.serves(daemon)
            if log:
                daemon.wait_log(r"worker pid \d+ for uid 0 on .* died: signal 9")
            self.assertEqual(daemon.stop(), 0)
        with self.subTest("background"):
            daemon = self.daemon()
            self.assertEqual(harness.run([*wrap, workspace().jailmapd, "-c", daemon.config])[0], 0)
            pid = int(proc.read(os.path.join(daemon.runtime, "jailmapd.pid")))
            below = proc.snapshot(pid)
            self.serves(daemon)
            harness.kill(pid, signal.SIGTERM)
            wait_for(lambda: harness.reap() or not proc.alive(pid), "the daemon to stop")
            harness.wait_ended(below, "the helpers of the daemon to end")
            self.assertFalse(os.path.exists(daemon.socket))

    def test_child_signal_ignored(self):
        """Started with SIGCHLD ignored, it sees its children end all the same."""
        self.both_ways(IGNORE_CHILDREN)

    def test_child_signal_ignored_and_failure(self):
        """Started in the background with SIGCHLD ignored, a start that fails has its exit status
        and its line."""
        daemon = self.daemon()
        workspace().write(daemon.directory, "socket", b"in the way")
        for wrap in ((), IGNORE_CHILDREN):
            code, out, errors = harness.run([*wrap, workspace().jailmapd, "-c", daemon.config])
            self.assertEqual((code, out, errors.count("\n")), (78, "", 1), errors)
            self.assertIn(daemon.socket, errors)

    def test_closed_descriptors(self):
        """Started with descriptors 0, 1 and 2 closed, or one of them, it serves."""
        for numbers in ((0, 1, 2), (0,), (2,)):
            with self.subTest(numbers):
                change = f"[os.close(fd) for fd in {numbers}]"
                self.both_ways(with_change(change), log=2 not in numbers)

    def test_few_descriptors(self):
        """A hard limit of open files that is too low is refused with a line that says how many are
        needed; with so many it serves."""
        which = resource.RLIMIT_NOFILE
        for options in ((), ("-f",)):
            daemon = self.daemon()
            command = [workspace().jailmapd, *options, "-c", daemon.config]
            code, out, errors = harness.run([*with_limit(which, 300), *command])
            self.assertEqual((code, out, errors.count("\n")), (71, "", 1), errors)
            match = re.search(r"limit of open files is 300, and .* needs (\d+)$", errors.strip())
            self.assertTrue(match, errors)
            self.assertFalse(os.path.exists(daemon.socket))
            need = int(match.group(1))
            code, _, errors = harness.run([*with_limit(which, need - 1), *command])
            self.assertEqual(code, 71, errors)
        self.both_ways(with_limit(which, need))

    def test_finite_limits(self):
        """Started with hard limits of file size or of address space that are lower than what it
        gives its helpers, it serves."""
        for which, value in (
            (resource.RLIMIT_FSIZE, 8 << 20),
            (resource.RLIMIT_AS, 1 << 30),
            (resource.RLIMIT_DATA, 128 << 20),
        ):
            if which != resource.RLIMIT_FSIZE and harness.sanitized():
                continue  # these have 16 TB of addresses, whatever they use
            with self.subTest(which):
                self.both_ways(with_limit(which, value))

    def test_directory_gives_group(self):
        """A socket that its set-group-ID directory would give another group is refused: exit 78, a
        line that says why, nothing left; in root's directory it gets its group."""
        place = workspace().directory("place", 0o2755, (ALICE, BOB))
        os.chmod(place, 0o2755)  # chown has cleared the bit
        path = os.path.join(place, "socket")
        for options in (("-f",), ()):
            daemon = self.daemon(listen={path: {"owner": str(ALICE), "group": str(ALICE)}})
            code, out, errors = harness.run([workspace().jailmapd, *options, "-c", daemon.config])
            self.assertEqual((code, out, errors.count("\n")), (78, "", 1), errors)
            self.assertRegex(errors, rf'^{daemon.config}:\d+:\d+: listen "{path}": .*set-group-ID')
            self.assertEqual(os.listdir(place), [])
            self.assertEqual(os.listdir(daemon.runtime), ["empty"])
        os.chown(place, 0, BOB)
        os.chmod(place, 0o2755)
        daemon.start()
        info = os.stat(path)
        self.assertEqual((info.st_uid, info.st_gid), (ALICE, ALICE))
        self.assertTrue(stat.S_ISSOCK(info.st_mode))
        self.serves(daemon)
