"""Compartments: what one user, or a worker that was taken over, takes away from nobody else, and how
a worker is replaced under its clients.

Runs as root inside tests/system/run, against daemons of its own in private directories. It connects
as users that nobody is, stops and ends only processes of this run, by pid, and builds a hostile
worker in a private directory. It must never ask what a worker thinks: only what clients, /proc and
the log show.
"""

import contextlib
import itertools
import os
import platform
import shutil
import signal
import socket
import subprocess

import harness
import nameservice
import proc
import protocol
from harness import REPOSITORY, entries, workspace
from protocol import OK, NOKEY, Closed, o_lookup, o_sequence, reply
from test_jail import kinds
from test_limits import ALICE, BOB, MANY, STRANGERS_MOST, LimitsCase, refusals
from waiting import wait_for

USERS = "unix:passwd.byname"
SO_PASSRIGHTS = 83


def is_closed(client):
    """Has the server closed this connection? Else there is nothing to read from it."""
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.socket.settimeout(protocol.LIMIT)


class ReplaceTest(LimitsCase):
    """A worker has served max-use clients, and those that it has go on with another one."""

    def setUp(self):
        super().setUp()
        self.name = self.table("a", "big " + "v" * 3_000_000 + "\n" + entries(300))
        self.others = []

    def daemon(self, tables=(), **options):
        """With workers that are worn out by three clients."""
        settings = {"workers": 1, "max-use": 3, **options}
        return self.jailmapd(
            [self.name, *tables],
            socket_options=settings,
            allow={"root": ["*"], str(ALICE): ["*"]},
            start=False,
        )

    def wear(self, daemon, worker):
        """Connects clients until another worker takes them, and waits until the worn one has handed
        over all but one of its own; returns the other one's pid."""

        def another():
            self.others.append(self.client(daemon))
            self.assertEqual(self.others[-1].lookup(self.name, "key1"), (OK, b"value1"))
            if len(self.others) > 5:
                self.others.pop(0).close()
            found = set(daemon.roles()["worker"]) - {worker}
            return found.pop() if found else None

        following = wait_for(another, "a worker to be replaced")
        wait_for(lambda: kinds(worker).get("stream") == 1, "idle connections to be handed over")
        return following

    def ended(self, daemon, worker):
        wait_for(lambda: worker not in daemon.roles()["worker"], f"worker pid {worker} to end")

    def test_no_answer_is_lost(self):
        """A client that pipelines keeps its connection and gets every answer, in order, while 20
        workers are worn out under it; none of them dies of it."""
        daemon = self.daemon().start()
        client = self.client(daemon)
        seen = set()
        for turn in itertools.count():
            asked = [f"key{(turn * 7 + number) % 400}" for number in range(60)]
            data = b"".join(o_lookup(self.name, key, 64) for key in asked)
            cut = (turn * 131) % len(data)
            client.send(data[:cut])
            with daemon.client() as other:
                client.send(data[cut:])
                self.assertEqual(other.lookup(self.name, "key1"), (OK, b"value1"))
            for key in asked:
                known = int(key[3:]) < 300
                value = key.replace("key", "value") if known else ""
                answer = reply("status", OK if known else NOKEY, "value", value)
                self.assertEqual(client.receive(), answer, key)
            seen.update(daemon.roles()["worker"])
            if len(seen) > 20:
                break
        self.assertNotRegex(daemon.log(), " died: |refused client")

    def test_many_clients(self):
        """200 connections that are idle go to the next worker, and all of them are answered by it
        when the last one has ended; none is greeted again."""
        daemon = self.daemon(**{"max-use": 200, "clients-per-worker": 220}).start()
        clients = [self.client(daemon)]
        (worker,) = daemon.roles()["worker"]
        clients += [self.client(daemon) for _ in range(199)]
        self.ended(daemon, worker)
        self.assertEqual(len(daemon.roles()["worker"]), 1)
        for number, client in enumerate(clients):
            self.assertEqual(
                client.ask(o_lookup(self.name, f"key{number}", 64)),
                reply("status", OK, "value", f"value{number}"),
            )
        self.assertNotRegex(daemon.log(), " died: |refused client")

    def test_half_request(self):
        """A request of which half was sent is answered by the worker that has the half, which stays
        for that; then its client goes on with the next worker."""
        daemon = self.daemon(**{"request-timeout": 600}).start()
        client = self.client(daemon)
        (worker,) = daemon.roles()["worker"]
        request = o_lookup(self.name, "key7", 64)
        client.send(request[:20])
        client.drained()
        self.wear(daemon, worker)
        self.assertIn(worker, daemon.roles()["worker"])
        client.send(request[20:])
        self.assertEqual(client.receive(), reply("status", OK, "value", "value7"))
        self.ended(daemon, worker)
        self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))

    def test_places_of_a_worn_worker(self):
        """A connection that stays with a worn worker takes a place of its user's, so the next
        worker has room for it."""
        options = {"max-use": 4, "clients-per-worker": 4, "request-timeout": 600}
        daemon = self.daemon(**options).start()
        clients = [self.client(daemon)]
        (worker,) = daemon.roles()["worker"]
        request = o_lookup(self.name, "key7", 64)
        clients[0].send(request[:20])
        clients[0].drained()
        clients += [self.client(daemon) for _ in range(3)]
        wait_for(lambda: kinds(worker).get("stream") == 1, "idle connections to be handed over")
        self.assertTrue(self.refused(daemon))
        clients[0].send(request[20:])
        self.assertEqual(clients[0].receive(), reply("status", OK, "value", "value7"))
        self.ended(daemon, worker)
        for client in clients:
            self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))

    def test_rest_of_a_bad_request(self):
        """Bytes that follow a request that was refused are passed over by the worker that refused
        it; then its client goes on with the next worker."""
        daemon = self.daemon().start()
        client = self.client(daemon)
        (worker,) = daemon.roles()["worker"]
        client.send(b"request\0lookup\0frob\0x\0")
        self.assertEqual(client.receive(), reply("status", protocol.BAD, "value", ""))
        self.wear(daemon, worker)
        self.assertIn(worker, daemon.roles()["worker"])
        client.send(b"and\0so on\0\0" + o_lookup(self.name, "key7", 64))
        self.assertEqual(client.receive(), reply("status", OK, "value", "value7"))
        self.ended(daemon, worker)
        self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))

    def test_sequence(self):
        """A walk over a table goes on where it was, with every entry once, and its worker stays
        until the walk has ended."""
        daemon = self.daemon().start()
        client = self.client(daemon)
        (worker,) = daemon.roles()["worker"]
        found = [client.call(o_sequence(self.name, 0))[1]]
        self.wear(daemon, worker)
        while True:
            self.assertIn(worker, daemon.roles()["worker"])
            code, key, _ = client.call(o_sequence(self.name, 1))
            if code == NOKEY:
                break
            found.append(key)
        self.assertEqual(
            sorted(found), sorted([b"big", *(f"key{number}".encode() for number in range(300))])
        )
        self.ended(daemon, worker)
        self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))

    def test_answer_that_is_not_taken(self):
        """An answer that its client takes late comes whole, from the worker that has begun it."""
        daemon = self.daemon().start()
        client = self.client(daemon)
        (worker,) = daemon.roles()["worker"]
        client.send(o_lookup(self.name, "big", 64))
        client.drained()
        self.wear(daemon, worker)
        self.assertIn(worker, daemon.roles()["worker"])
        expected = reply("status", OK, "value", "v" * 3_000_000)
        self.assertTrue(client.receive() == expected, "3 MB value arrives whole")
        self.ended(daemon, worker)
        self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))

    def test_question_to_an_agent(self):
        """What an agent owes to a worn worker comes to the client that asked; then that goes on
        with the next worker."""
        daemon = self.daemon([USERS]).start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(USERS, "nss-user-1"), (OK, nameservice.user(1)))
        (worker,), (agent,) = daemon.roles()["worker"], daemon.wait_roles("agent")
        self.pause(agent)
        client.send(o_lookup(USERS, "nss-user-2", 64))
        client.drained()
        self.wear(daemon, worker)
        self.assertIn(worker, daemon.roles()["worker"])
        self.resume(agent)
        self.assertEqual(client.receive(), reply("status", OK, "value", nameservice.user(2)))
        self.ended(daemon, worker)
        self.eventually(client, USERS, "nss-user-3", (OK, nameservice.user(3)))

    def test_next_worker_is_stopped(self):
        """While the next worker does not come to life, connections stay where they are; none is
        lost, and all are answered when it does."""
        daemon = self.daemon(**{"max-use": 40}).start()
        clients = [self.client(daemon) for _ in range(39)]
        (worker,) = daemon.roles()["worker"]
        self.pause(worker)  # so that the next one is there, and stopped, before the first is asked
        clients.append(self.client(daemon, greeting=False))
        following = wait_for(
            lambda: (set(daemon.roles()["worker"]) - {worker} or {None}).pop(), "the next worker"
        )
        self.pause(following)
        self.resume(worker)
        for number, client in enumerate(clients):
            client.send(o_lookup(self.name, f"key{number}", 64))
        self.resume(following)
        self.assertEqual(clients[-1].receive(), protocol.GREETING)
        for number, client in enumerate(clients):
            self.assertEqual(client.receive(), reply("status", OK, "value", f"value{number}"))
        self.ended(daemon, worker)
        self.assertNotRegex(daemon.log(), " died: |refused client")


    def test_next_worker_is_full(self):
        """Connections that the next worker has no room for at the moment stay with the worn one,
        which answers them; none is lost."""
        options = {"max-use": 40, "clients-per-worker": 4096, "request-timeout": 600, "backlog": 4096}
        daemon = self.daemon(**options).start()
        request, clients = o_lookup(self.name, "key7", 64), []
        for _ in range(39):
            clients.append(self.client(daemon))
            clients[-1].send(request[:20])
        (worker,) = daemon.roles()["worker"]
        clients.append(self.client(daemon))
        following = wait_for(
            lambda: (set(daemon.roles()["worker"]) - {worker} or {None}).pop(), "the next worker"
        )
        # The one that has sent nothing is there, so the worn worker has been asked for all.
        wait_for(lambda: "stream" in kinds(following), "the idle connection to be handed over")
        self.pause(following)
        while not any(is_closed(client) for client in clients[-64:]):
            self.assertLess(len(clients), 4096)
            clients += [self.client(daemon, greeting=False) for _ in range(64)]
            with daemon.client(uid=ALICE) as alice:  # in her turn, so all before her are decided
                self.assertEqual(alice.lookup(self.name, "key1"), (OK, b"value1"))
        daemon.wait_log("its worker is too busy")
        refused = [client for client in clients if is_closed(client)]
        clients = [client for client in clients if client not in refused]
        for _ in range(3):
            for client in clients[:39]:
                client.send(request[20:])
                self.assertEqual(client.receive(), reply("status", OK, "value", "value7"))
                client.send(request[:20])
        for client in clients[:39]:
            client.send(request[20:])
        self.resume(following)
        for client in clients[40:]:
            self.assertEqual(client.receive(), protocol.GREETING)
        for client in clients[:39]:
            self.assertEqual(client.receive(), reply("status", OK, "value", "value7"))
        for client in clients:
            self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))
        self.ended(daemon, worker)
        for client in clients:
            self.assertEqual(client.lookup(self.name, "key8"), (OK, b"value8"))
        self.assertNotIn(" died: ", daemon.log())
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(refusals(daemon.log())[1], len(refused))


class HostileTest(LimitsCase):
    """A worker that was taken over hands back something else."""

    ATTACKS = ("other", "pair", "bridge", "file", "number", "free", "twice", "unasked")

    @classmethod
    def setUpClass(cls):
        cls.libexec = workspace().directory("hostile")
        for name in os.listdir(workspace().libexec):
            shutil.copy(os.path.join(workspace().libexec, name), cls.libexec)
        sources = ["tests/system/hostile_worker.c", "privsep/bridge.c"]
        subprocess.run(
            ["cc", "-D_GNU_SOURCE", "-I.", "-fPIE", "-static-pie", "-o"]
            + [os.path.join(cls.libexec, "jailmap-worker"), *sources],
            cwd=REPOSITORY,
            check=True,
        )

    def test_hands_back_what_it_was_not_given(self):
        """Whatever a worker hands back but the connection that it was passed and asked for ends it,
        with a line; the monitor keeps no socket of it, and other users are served."""
        for how in self.ATTACKS:
            with self.subTest(how):
                directory = workspace().directory("attack")
                path = os.path.join(directory, f"s-{how}")
                options = {"mode": "0666", "workers": 1, "max-use": 2}
                daemon = self.jailmapd(
                    allow={"root": [], str(ALICE): []}, listen={path: options}, libexec=self.libexec
                )
                before = proc.classify(daemon.pid)
                alice = self.client(daemon, uid=ALICE, greeting=how != "unasked")
                bystander = self.worker_of(daemon, ALICE) if how != "unasked" else None
                clients = [self.client(daemon, greeting=False) for _ in range(2)]
                reason = (
                    "(descriptors or control messages that it may not send|message out of state)"
                    if how == "unasked"
                    else "it hands back what it was not given"
                )
                daemon.wait_log(rf"warning: worker pid \d+ for uid 0 on {path} died: {reason}")
                if bystander is not None:
                    self.assertEqual(self.worker_of(daemon, ALICE), bystander)
                for client in (alice, *clients):
                    client.close()
                wait_for(
                    lambda: not self.new_sockets(daemon, before), "the monitor to keep no socket"
                )
                self.assertLessEqual(len(proc.classify(daemon.pid)), len(before) + 4)
                self.assertEqual(daemon.stop(), 0)

    def new_sockets(self, daemon, before):
        """Stream sockets that the monitor has and had not before."""
        return [
            kind
            for fd, kind in proc.classify(daemon.pid).items()
            if fd not in before and kind.startswith("stream")
        ]

    def test_once_is_enough(self):
        """After a worker handed back a file, the monitor does not ask that user's workers again, so
        it cannot be made to keep another one."""
        path = os.path.join(workspace().directory("attack"), "s-file")
        options = {"mode": "0666", "workers": 1, "max-use": 2}
        daemon = self.jailmapd(allow={"root": []}, listen={path: options}, libexec=self.libexec)
        clients = [self.client(daemon, greeting=False) for _ in range(2)]
        daemon.wait_log("died: it hands back what it was not given")
        kept = len(proc.classify(daemon.pid))

        def served():
            client = self.client(daemon, greeting=False)
            clients.append(client)
            with contextlib.suppress(Closed):
                return client.receive() == protocol.GREETING
            return False

        for _ in range(8):
            wait_for(served, "the next worker")
        self.assertEqual(len(daemon.roles()["worker"]), 1)
        self.assertLessEqual(len(proc.classify(daemon.pid)), kept + 1)
        self.assertEqual(daemon.log().count(" died: "), 1)


    def test_once_for_guests(self):
        """Nor is a guest's, although nothing else of a guest is remembered once the last of its
        workers has ended."""
        path = os.path.join(workspace().directory("attack"), "s-file")
        options = {"mode": "0666", "workers": 1, "max-use": 2}
        daemon = self.jailmapd(allow={"*": []}, listen={path: options}, libexec=self.libexec)
        clients = [self.client(daemon, uid=ALICE, greeting=False) for _ in range(2)]
        daemon.wait_log("died: it hands back what it was not given")

        def served():
            client = self.client(daemon, uid=ALICE, greeting=False)
            clients.append(client)
            with contextlib.suppress(Closed):
                return client.receive() == protocol.GREETING
            return False

        for _ in range(3):
            wait_for(lambda: served() and served() and served(), "clients to be served")
            (worker,) = daemon.roles()["worker"]
            mark = daemon.mark()
            harness.kill(worker)
            daemon.wait_log(f"worker pid {worker} .* died: signal 9", mark)
        self.assertEqual(daemon.log().count("hands back what it was not given"), 1)


class ShareTest(LimitsCase):
    """Each user has a share that no other can take."""

    def test_every_user_has_a_place(self):
        """80 users whom allow sections name are connected and served at the same time, on two
        sockets, while one of them takes all that it can get."""
        name = self.table("a", "key value\n")
        directory = workspace().directory("two")
        paths = [os.path.join(directory, end) for end in ("one", "two")]
        options = {"mode": "0666", "workers": 2, "clients-per-worker": 8}
        daemon = self.jailmapd(
            [name],
            allow={str(uid): ["*"] for uid in (ALICE, *range(MANY, MANY + 80))},
            listen={path: options for path in paths},
        )
        greedy = []
        for path in paths * 20:
            client = protocol.Client(path, uid=ALICE, greeting=False)
            self.addCleanup(client.close)
            with contextlib.suppress(Closed, OSError):
                client.receive()
                client.send(b"request\0lookup\0" * 1000)
                greedy.append(client)
        self.assertEqual(len(greedy), 2 * 2 * 8)
        inside = []
        for uid, path in zip(range(MANY, MANY + 80), itertools.cycle(paths)):
            inside.append(protocol.Client(path, uid=uid))
            self.addCleanup(inside[-1].close)
            self.assertEqual(inside[-1].lookup(name, "key"), (OK, b"value"), uid)
        for client in inside:
            self.assertEqual(client.lookup(name, "key"), (OK, b"value"))
        self.assertNotRegex(daemon.log(), rf"refused client uid {MANY // 100}\d\d ")
        self.assertEqual(len(daemon.roles()["worker"]), 4 + 80)

    def test_served_beside_a_flood(self):
        """While one user connects, asks for what he may not have and leaves, as fast as he can,
        another one is served, and the monitor's log tells of the flood in few lines."""
        name = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [name], allow={str(ALICE): ["*"], str(BOB): []}, socket_options={"max-use": 50}
        )
        rounds = self.flood(daemon)
        served = told = 0
        while told < 1000 or served < 50:
            told += len(rounds.read(4096) or b"")
            with daemon.client(uid=ALICE) as alice:
                self.assertEqual(alice.lookup(name, "key"), (OK, b"value"))
            served += 1
        self.assertLess(daemon.log().count(f"to uid {BOB} "), 400)
        self.assertNotIn(" died: ", daemon.log())

    def flood(self, daemon):
        """A child that is BOB and connects, asks and leaves without end; ended with the test.
        Returns a pipe that gets a byte for each time."""
        ours, theirs = os.pipe()
        data = b"".join(protocol.o_open(f"hash:/{number}") for number in range(50))
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setresuid(BOB, BOB, BOB)
                while os.write(theirs, b".") == 1:
                    with socket.socket(socket.AF_UNIX) as connection:
                        connection.connect(daemon.socket)
                        with contextlib.suppress(OSError):
                            connection.sendall(data)
                            connection.recv(100)
            os._exit(0)
        os.close(theirs)
        os.set_blocking(ours, False)
        rounds = open(ours, "rb", buffering=0)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.addCleanup(rounds.close)
        return rounds

    def test_strangers_cost_nothing(self):
        """20,000 users whom no section names connect: 8 get a worker, all others are refused in few
        lines that count them, and the monitor does not grow; whom a section names is served."""
        name = self.table("a", "key value\n")
        daemon = self.jailmapd([name], allow={str(ALICE): ["*"]})
        inside = [self.client(daemon, uid=MANY + number) for number in range(STRANGERS_MOST)]
        before = self.data(daemon.pid)
        self.assertEqual(self.connect_as_many(daemon, range(MANY + 100, MANY + 20_100)), 20_000)
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(name, "key"), (OK, b"value"))
        # A sanitizer keeps what was freed for a while: tests/sanitized/options.h.
        room = (32 if harness.sanitized() else 1) << 20
        self.assertLess(self.data(daemon.pid) - before, room)
        for client in inside:
            self.assertEqual(client.open(name)[0], protocol.DENY)
        self.assertEqual(len(daemon.roles()["worker"]), STRANGERS_MOST + 1)
        self.assertEqual(daemon.stop(), 0)
        lines, clients = refusals(daemon.log())
        self.assertEqual(clients, 20_000)
        self.assertLess(lines, 400)

    @staticmethod
    def data(pid):
        """Bytes of private memory of a process."""
        return int(proc.status(pid)["VmData"].split()[0]) << 10

    @staticmethod
    def connect_as_many(daemon, uids):
        """Connects once as each user, in one child; returns how many of them were refused."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            refused = 0
            with contextlib.suppress(Exception):
                os.setgroups([])
                for uid in uids:
                    os.setresuid(-1, 0, -1)
                    os.setresuid(uid, uid, 0)
                    with socket.socket(socket.AF_UNIX) as connection:
                        connection.connect(daemon.socket)
                        refused += connection.recv(100) == b""
            os.write(theirs, str(refused).encode())
            os._exit(0)
        os.close(theirs)
        with open(ours, "rb") as file:
            refused = int(file.read())
        os.waitpid(pid, 0)
        return refused

    def test_pace_of_strangers(self):
        """Users whom no section names and who come and leave again and again are not given a new
        process each time."""
        daemon = self.jailmapd([], allow={str(ALICE): []})
        refused = self.connect_as_many(daemon, range(MANY, MANY + 2000))
        self.assertGreater(refused, 0)
        self.assertRegex(daemon.log(), "refused client uid .*: too many users whom no allow")
        self.assertNotIn(" died: ", daemon.log())

    def test_no_descriptors_from_clients(self):
        """A client cannot put descriptors into its connection: what closes it could be made to wait
        for them."""
        daemon = self.jailmapd([])
        client = self.client(daemon)
        try:
            client.socket.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            self.skipTest(f"the kernel, {platform.release()}, cannot refuse them: 6.16 can")
        with open("/dev/null", "rb") as file, self.assertRaises(PermissionError):
            socket.send_fds(client.socket, [b"x"], [file.fileno()])


class PendingTest(LimitsCase):
    """Bytes that wait in a worker are counted, and have a limit."""

    def pending_daemon(self, name, **options):
        settings = {"workers": 1, "max-pending": 4, "max-request": 1 << 20, **options}
        daemon = self.jailmapd([name], socket_options=settings)
        quick = self.client(daemon)
        self.assertEqual(quick.lookup(name, "key"), (OK, b"value"))
        return daemon, quick, self.worker_of(daemon, 0)

    def told(self, daemon):
        daemon.wait_log(
            rf"warning: closed client uid 0 pid {os.getpid()} on {daemon.socket}: with it, more "
            r"bytes would be pending in its worker than max-pending, 4 MB"
        )
        self.assertNotIn(" died: ", daemon.log())

    def test_half_requests(self):
        """Half-sent requests that would be more than max-pending close the client that sends too
        much, with a line, and no other: the rest are answered, by the same worker."""
        name = self.table("a", "key value\n")
        daemon, quick, worker = self.pending_daemon(name, **{"request-timeout": 600})
        request = o_lookup(name, "k" * 400_000, 64)
        clients = []
        while not any(is_closed(client) for client in clients):
            self.assertLess(len(clients), 40)
            clients.append(self.client(daemon))
            with contextlib.suppress(OSError):
                clients[-1].send(request[:300_000])
                clients[-1].drained()
            self.assertEqual(quick.lookup(name, "key"), (OK, b"value"))
        self.told(daemon)
        self.assertGreaterEqual(len(clients), 4)
        for client in clients[:-1]:
            client.send(request[300_000:])
            self.assertEqual(client.receive(), reply("status", NOKEY, "value", ""))
        self.assertEqual(self.client(daemon).lookup(name, "k" * 400_000), (NOKEY, b""))
        self.assertEqual(self.worker_of(daemon, 0), worker)

    def test_answers_not_taken(self):
        """Answers that nobody takes and that would be more than max-pending close the client that
        asks for one more, and no other."""
        name = self.table("a", "big " + "v" * 900_000 + "\nkey value\n")
        daemon, quick, worker = self.pending_daemon(name)
        clients = []
        while "max-pending" not in daemon.log():
            self.assertLess(len(clients), 10)
            clients.append(self.client(daemon))
            clients[-1].send(o_lookup(name, "big", 64))
            clients[-1].drained()
            self.assertEqual(quick.lookup(name, "key"), (OK, b"value"))
        self.told(daemon)
        answer, whole = reply("status", OK, "value", "v" * 900_000), 0
        for client in clients:
            with contextlib.suppress(Closed):
                self.assertTrue(client.receive() == answer, "the value arrives whole")
                whole += 1
        self.assertGreaterEqual(whole, 2)
        self.assertEqual(self.client(daemon).lookup(name, "big")[0], OK)
        self.assertEqual(self.worker_of(daemon, 0), worker)
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(daemon.log().count("warning: closed client"), len(clients) - whole)

    def test_questions_held(self):
        """Keys that wait for an agent count, and go when it has answered."""
        daemon = self.jailmapd(
            [USERS],
            socket_options={"workers": 1, "max-pending": 4, "max-request": 1 << 20},
            start=False,
        ).start(wrap=nameservice.switched())
        quick = self.client(daemon)
        self.assertEqual(quick.lookup(USERS, "nss-user-1"), (OK, nameservice.user(1)))
        (agent,) = daemon.wait_roles("agent")
        for _ in range(2):
            self.pause(agent)
            clients = []
            # Not by the log, which has few lines on what happens often.
            while not clients or not clients[-1].is_closed():
                self.assertLess(len(clients), 60)
                clients.append(self.client(daemon))
                with contextlib.suppress(BrokenPipeError):
                    clients[-1].send(o_lookup(USERS, "u" * 250_000, 64))
                clients[-1].drained()
                # The worker has dealt with that before this, which is in the file of users.
                self.assertEqual(quick.lookup(USERS, "root")[0], OK)
            self.resume(agent)
            answered = 0
            for client in clients:
                with contextlib.suppress(Closed):
                    self.assertEqual(client.receive(), reply("status", NOKEY, "value", ""))
                    answered += 1
            self.assertGreaterEqual(answered, 4)
            self.assertEqual(quick.lookup(USERS, "nss-user-1"), (OK, nameservice.user(1)))
        self.told(daemon)

    def test_default_holds(self):
        """With the default, 250 clients with half a request of 1 MB each: some are closed, the
        others answered, and the worker lives; 100 with 250 kB each do not meet the limit."""
        name = self.table("a", "key value\n")
        daemon = self.jailmapd([name], socket_options={"workers": 1, "request-timeout": 600})
        quick = self.client(daemon)
        worker = self.worker_of(daemon, 0)
        for count, size in ((100, 250_000), (250, 1_000_000)):
            request = o_lookup(name, "k" * size, 64)
            clients = [self.client(daemon) for _ in range(count)]
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(request[:-100])
            for client in clients:
                client.drained()
            self.assertEqual(quick.lookup(name, "key"), (OK, b"value"))
            answered = 0
            for client in clients:
                with contextlib.suppress(Closed, OSError):
                    client.send(request[-100:])
                    self.assertEqual(client.receive(), reply("status", NOKEY, "value", ""))
                    answered += 1
                client.close()
            self.assertEqual(answered == count, size == 250_000)
            self.assertEqual("max-pending" in daemon.log(), size != 250_000)
            self.assertGreaterEqual(answered, 50)
        self.assertEqual(self.worker_of(daemon, 0), worker)
