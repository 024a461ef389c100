"""socketmap and tcp tables: the agent and its dialer, with a server that answers, or does not, or
sends anything."""

import contextlib
import fcntl
import os
import socket
import struct
import tempfile
import threading
import unittest

import harness
import proc
from harness import workspace
from net_agent import (
    CANNOT,
    CONFIG,
    DIAL,
    DIALED,
    FAILED,
    FAILING,
    FOUND,
    HOSTS,
    LINK,
    NOT_FOUND,
    RECHECK,
    RETRY,
    WORKING,
    Agent,
    Dialer,
    Server,
    answering,
    netstring,
    receive,
    send,
)
from waiting import wait_for

GARBAGE = os.urandom(64)


# A name service that waits for a lock that somebody else has.
SLOW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/file.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");

    if (strcmp(node, "slow.invalid") != 0)
        return real(node, service, hints, list);
    while (flock(open(LOCK, O_RDONLY), LOCK_SH) != 0)
        ;
    return real("127.0.0.1", service, hints, list);
}
"""


class NetCase(unittest.TestCase):
    def server(self, talk, **options):
        server = Server(talk, **options)
        self.addCleanup(server.close)
        return server

    def agent(self, table, timeout=20):
        agent = Agent(table, timeout)
        self.addCleanup(agent.close)
        return agent

    def dialer(self, *hosts, preload=None):
        dialer = Dialer(preload)
        self.addCleanup(dialer.close)
        if hosts:
            dialer.hosts(*hosts)
        return dialer

    def socketmap(self, reply, timeout=20):
        """An agent whose server answers each request with reply(request)."""
        server = self.server(answering(reply))
        return self.agent(f"socketmap:inet:127.0.0.1:{server.port}:map", timeout), server

    def tcp(self, reply, timeout=20):
        server = self.server(answering(reply, "tcp"))
        return self.agent(f"tcp:127.0.0.1:{server.port}", timeout), server

    def free_port(self):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            return place.getsockname()[1]


class RepliesTest(NetCase):
    """What becomes of each reply, as with Postfix."""

    SOCKETMAP = (
        (b"OK value", (FOUND, b"value")),
        (b"OK  value ", (FOUND, b" value ")),
        (b"OK ", (FOUND, b"")),
        (b"OK", (FOUND, b"")),
        (b"OK a\0b", (FOUND, b"a")),
        (b"OK " + b"x" * 99997, (FOUND, b"x" * 99997)),
        (b"NOTFOUND", (NOT_FOUND, b"")),
        (b"NOTFOUND ", (NOT_FOUND, b"")),
        (b"NOTFOUND text", (NOT_FOUND, b"")),
        (b"PERM not here", (CONFIG, b"")),
        (b"TEMP later", (RETRY, b"")),
        (b"TIMEOUT later", (RETRY, b"")),
        (b"ok value", (RETRY, b"")),
        (b"OK\tvalue", (RETRY, b"")),
        (b"NOTFOUNDS", (RETRY, b"")),
        (b"", (RETRY, b"")),
        (b"\0", (RETRY, b"")),
    )
    TCP = (
        (b"200 value", (FOUND, b"value")),
        (b"200\tvalue", (FOUND, b"value")),
        (b"299 a b ", (FOUND, b"a b ")),
        (b"200 ", (FOUND, b"")),
        (b"200 %41%4a%4A%25", (FOUND, b"AJJ%")),
        (b"200 value\r", (FOUND, b"value\r")),
        (b"200 a%00b", (FOUND, b"a")),
        (b"200 " + b"x" * 4091, (FOUND, b"x" * 4091)),
        (b"500 no", (NOT_FOUND, b"")),
        (b"500\r", (NOT_FOUND, b"")),
        (b"400 later", (RETRY, b"")),
    )

    def test_socketmap(self):
        """Every reply of the socketmap protocol, over a connection that is kept."""
        agent, server = self.socketmap(
            lambda request: netstring(self.SOCKETMAP[int(request[4:])][0])
        )
        for number, (sent, right) in enumerate(self.SOCKETMAP):
            self.assertEqual(agent.lookup(b"%d" % number), right, sent[:20])
        self.assertLess(server.count, 5)

    def test_tcp(self):
        """Every reply of the tcp_table protocol; one that begins with 4 ends the connection."""
        agent, server = self.tcp(lambda request: self.TCP[int(request[4:])][0] + b"\n")
        for number, (sent, right) in enumerate(self.TCP):
            self.assertEqual(agent.lookup(b"%d" % number), right, sent[:20])
        before = server.count
        self.assertLess(before, 5)
        self.assertEqual(agent.lookup(b"0"), (FOUND, b"value"))
        self.assertGreater(server.count, before)

    def test_keys(self):
        """Keys reach the server as they are, or quoted; also the longest."""
        keys = (
            b"key",
            b"",
            b"a b",
            b"%",
            b"caf\xc3\xa9",
            b"\t\r\n\x7f~",
            b"x" * 262144,
            b"\xff" * 262144,
        )
        agent, _ = self.socketmap(lambda request: netstring(b"OK %d" % len(request)))
        for key in keys:
            self.assertEqual(agent.lookup(key), (FOUND, b"%d" % (len(key) + 4)))
        agent, _ = self.tcp(lambda request: b"200 " + request[-40:].replace(b"%", b"%25") + b"\n")
        quoted = (b"key", b"", b"a%20b", b"%25", b"caf%C3%A9", b"%09%0D%0A%7F~")
        for key, right in zip(keys, quoted):
            self.assertEqual(agent.lookup(key), (FOUND, b"get " + right))
        self.assertEqual(agent.lookup(keys[-2]), (FOUND, b"x" * 40))
        self.assertEqual(agent.lookup(keys[-1]), (FOUND, (b"%FF" * 40)[-40:]))

    def test_unix_socket(self):
        """A server on a UNIX socket."""
        place = tempfile.mkdtemp(dir=workspace().directory("net"))
        os.chmod(place, 0o755)
        path = os.path.join(place, "socket")
        self.server(answering(lambda request: netstring(b"OK " + request)), path=path)
        agent = self.agent(f"socketmap:unix:{path}:map")
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"map key"))

    def test_names(self):
        """A name that nobody could connect to is refused, with what is expected."""
        for name, found in (
            ("tcp:host", "there is no port; expected is tcp:HOST:PORT"),
            ("tcp::25", "there is no host"),
            ("tcp:host:0", "neither a number from 1 to 65535 nor the name of a service"),
            ("tcp:host:65536", "the port is neither"),
            ("tcp:::1:25", "no IPv6 address in brackets"),
            ("tcp:[::g]:25", "no IPv6 address"),
            (
                "socketmap:map",
                "neither unix: nor inet:; expected is socketmap:inet:HOST:PORT:MAP or",
            ),
            ("socketmap:inet:host:25", "there is no port"),
            ("socketmap:inet:host:25:", "there is no name of a map"),
            ("socketmap:unix:relative:map", "does not begin with /"),
            ("socketmap:unix:/" + "x" * 107 + ":map", "longer than 107 bytes"),
        ):
            agent = self.agent(name)
            self.assertEqual(agent.loaded, FAILED, name)
            self.assertIn(name.split(":")[0] + ":", agent.text)
            self.assertIn(found, agent.text)


class HostileTest(NetCase):
    """Servers that break the rules hurt one query, and are left alone in the end."""

    def expect_failure(self, agent, says, queries=10):
        """So many queries in a row fail, and with the last one the table."""
        self.assertEqual(agent.lookup(b"key"), (RETRY, b""))
        event, text = agent.event()
        self.assertEqual(event, CANNOT)
        self.assertIn(says, text)
        for _ in range(1, queries):
            self.assertEqual([event for event, _ in agent.events() if event != CANNOT], [])
            self.assertEqual(agent.lookup(b"key"), (RETRY, b""))
        self.assertIn((FAILING, text), agent.events())

    def test_not_a_reply(self):
        """Bytes that are no reply."""
        for data, says in (
            (GARBAGE, "no netstring"),
            (b"hello", "no netstring"),
            (b":OK value,", "without a length"),
            (b"8:OK valueX", "does not end in a comma"),
            (b"100001:", "too long"),
            (b"99999999999999999999999", "too long"),
            (b"0" * 30, "no netstring"),
            (b"-1:,", "no netstring"),
            (b" 8:OK value,", "no netstring"),
        ):
            with self.subTest(data[:30]):
                agent, _ = self.socketmap(lambda _, data=data: data)
                self.expect_failure(agent, says)
        for data, says in (
            (b"hello\n", "no status"),
            (b"200\n", "no status"),
            (b"200-value\n", "no status"),
            (b"300 value\n", "no status"),
            (b"\n", "no status"),
            (b"200 %4\n", "two digits"),
            (b"200 %zz\n", "two digits"),
            (b"200 " + b"x" * 4092 + b"\n", "more than 4096 bytes"),
            (b"2" * 100000, "more than 4096 bytes"),
        ):
            with self.subTest(data[:30]):
                agent, _ = self.tcp(lambda _, data=data: data)
                self.expect_failure(agent, says)

    def test_closes(self):
        """It closes the connection instead of a reply, or in the middle of one: each query is tried
        twice."""
        for begin in (b"", b"8:OK va"):
            with self.subTest(begin):

                def talk(connection, _, begin=begin):
                    connection.recv(1000)
                    connection.sendall(begin)

                server = self.server(talk)
                agent = self.agent(f"socketmap:inet:127.0.0.1:{server.port}:map")
                self.expect_failure(
                    agent, "closed the connection before its reply was whole, twice"
                )
                self.assertEqual(server.count, 20)

    def test_never_answers(self):
        """It accepts, and reads, and says nothing; or sends a byte now and then."""
        for drip in (b"", b"0"):
            with self.subTest(drip):
                ended = threading.Event()
                self.addCleanup(ended.set)

                def talk(connection, _, drip=drip, ended=ended):
                    for _ in range(20):
                        connection.sendall(drip)
                        if ended.wait(0.1):
                            return
                    ended.wait()

                server = self.server(talk)
                agent = self.agent(f"socketmap:inet:127.0.0.1:{server.port}:map", timeout=1)
                self.expect_failure(agent, "no reply within 1 s", 2)

    def test_never_accepts(self):
        """Connections are in its queue, and nobody takes them."""
        server = self.server(None)
        agent = self.agent(f"tcp:127.0.0.1:{server.port}", timeout=1)
        self.expect_failure(agent, "no reply within 1 s", 2)

    def test_slow_bytes(self):
        """A reply that comes byte by byte is a reply."""

        def talk(connection, _):
            connection.recv(1000)
            for byte in b"8:OK value,":
                connection.sendall(bytes([byte]))
                threading.Event().wait(0.01)
            connection.recv(1000)

        server = self.server(talk)
        agent = self.agent(f"socketmap:inet:127.0.0.1:{server.port}:map")
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"value"))

    def test_out_of_step(self):
        """What it sends besides the reply is no reply to the next request, whenever it comes."""
        late = threading.Event()

        def talk(connection, number):
            connection.recv(1000)
            connection.sendall(b"7:OK own,," if number == 1 else b"6:OK own,")
            if number > 1:
                connection.sendall(b"8:OK wrong,")
                late.set()
            connection.recv(1000)

        server = self.server(talk)
        agent = self.agent(f"socketmap:inet:127.0.0.1:{server.port}:map")
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"own,"))
        for _ in range(3):
            late.clear()
            self.assertEqual(agent.lookup(b"key"), (FOUND, b"own"))
            late.wait()
        self.assertEqual(server.count, 4)

    def test_words_in_the_log(self):
        """What the server says is in the log in visible ASCII, and not all of it."""
        agent, _ = self.socketmap(lambda _: netstring(b"TEMP a\nb\x1b[31m\xff" + b"x" * 900))
        self.assertEqual(agent.lookup(b"key"), (RETRY, b""))
        event, text = agent.event()
        self.assertEqual(event, CANNOT)
        self.assertIn('it says "TEMP a?b?[31m?xxx', text)
        self.assertLess(len(text), 500)

    def test_one_bad_key(self):
        """A key that a server cannot take does not keep others from being answered."""
        agent, _ = self.socketmap(lambda r: None if b"bad" in r else netstring(b"OK good"))
        for _ in range(3):
            self.assertEqual(agent.lookup(b"bad"), (RETRY, b""))
            self.assertEqual(agent.lookup(b"key"), (FOUND, b"good"))
        self.assertNotIn(FAILING, [event for event, _ in agent.events()])


class BreakerTest(NetCase):
    """Servers that are not there."""

    def test_refused_and_back(self):
        """Nobody listens: queries are answered without another connection, and when somebody does,
        it is found out without a query."""
        port = self.free_port()
        agent = self.agent(f"tcp:127.0.0.1:{port}")
        for _ in range(500):
            self.assertEqual(agent.lookup(b"key"), (RETRY, b""))
        self.assertEqual(
            agent.events(), [(FAILING, f"connect to inet:127.0.0.1:{port}: Connection refused")]
        )
        server = self.server(answering(lambda _: b"200 back\n", "tcp"), port=port)
        self.assertEqual(agent.event(), (WORKING, ""))
        server.wait_connections(1)
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"back"))

    def test_restarted(self):
        """A server that has been restarted is asked again, and nobody notices."""
        agent, server = self.tcp(lambda _: b"200 one\n")
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"one"))
        server.close()
        self.server(answering(lambda _: b"200 two\n", "tcp"), port=server.port)
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"two"))
        self.assertEqual(agent.events(), [])

    def test_hung_and_back(self):
        """A server that stops answering is left alone after two queries; it is asked again when a
        connection has been made without anybody waiting, and the first answer ends it."""
        hung, count = threading.Event(), []

        def reply(request):
            count.append(request)
            if hung.is_set():
                threading.Event().wait(3)
                return None
            return netstring(b"OK fine")

        agent, server = self.socketmap(reply, timeout=1)
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"fine"))
        hung.set()
        for _ in range(500):
            self.assertEqual(agent.lookup(b"key"), (RETRY, b""))
        self.assertLess(len(count), 10)
        hung.clear()
        wait_for(lambda: agent.lookup(b"key") == (FOUND, b"fine"), "the server to be asked again")
        kinds = [event for event, _ in agent.events()]
        self.assertEqual([kind for kind in kinds if kind != CANNOT], [FAILING, WORKING])

    def test_recheck(self):
        """An agent that hears that others fail tells of its next query, if it is answered."""
        agent, _ = self.tcp(lambda _: b"200 value\n")
        self.assertEqual(agent.lookup(b"key"), (FOUND, b"value"))
        send(agent.bridge, RECHECK, struct.pack("=I", 1))
        wait_for(
            lambda: agent.lookup(b"key") == (FOUND, b"value") and (WORKING, "") in agent.events(),
            "the agent to say so",
        )


class DialerTest(NetCase):
    """The dialer alone, with the test as its agent."""

    def test_connects(self):
        """To a UNIX socket, an address and a name; the connection is not blocking, and the agent's."""
        place = tempfile.mkdtemp(dir=workspace().directory("net"))
        os.chmod(place, 0o755)
        path = os.path.join(place, "socket")
        servers = self.server(answering(lambda _: b"x")), self.server(
            answering(lambda _: b"x"), path=path
        )
        dialer = self.dialer(
            f"unix:{path}", f"inet:127.0.0.1:{servers[0].port}", f"inet:localhost:{servers[0].port}"
        )
        for host in (0, 1, 2, 0, 1):
            with dialer.dial(host) as connection:
                self.assertFalse(os.get_blocking(connection.fileno()))
                if host > 0:
                    nodelay = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    self.assertEqual(nodelay, 1)
                connection.setblocking(True)
                connection.sendall(b"1:x,")
                self.assertEqual(connection.recv(10), b"x")

    def test_cannot_connect(self):
        """Why not, in words."""
        port = self.free_port()
        dialer = self.dialer(
            f"inet:127.0.0.1:{port}",
            "unix:/nonexistent/socket",
            "inet:no-such-host.invalid:25",
            "inet:127.0.0.1:no-such-service",
        )
        refused, missing, unknown, service = (dialer.dial(host) for host in range(4))
        self.assertEqual(refused, f"connect to inet:127.0.0.1:{port}: Connection refused")
        self.assertEqual(missing, "connect to unix:/nonexistent/socket: No such file or directory")
        self.assertTrue(unknown.startswith("look up inet:no-such-host.invalid:25: "), unknown)
        self.assertTrue(service.startswith("look up inet:127.0.0.1:no-such-service: "), service)

    def test_gives_up(self):
        """A server whose queue is full: it is tried until the time is over."""
        place = tempfile.mkdtemp(dir=workspace().directory("net"))
        os.chmod(place, 0o755)
        path = os.path.join(place, "socket")
        with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
            full.bind(path)
            os.chmod(path, 0o666)
            full.listen(0)
            first.connect(path)
            dialer = self.dialer(f"unix:{path}")
            self.assertEqual(dialer.dial(0, 200), f"connect to unix:{path}: Connection timed out")
            number = dialer.order(0, 60000)
            full.accept()[0].close()
            found, body, fds = receive(dialer.link)
            self.assertEqual((found, struct.unpack("=I", body)[0]), (DIALED, number))
            os.close(fds[0])

    def test_packets_are_swallowed(self):
        """A TCP server whose queue is full answers nothing at all: it is tried until the time is
        over, and another order is taken meanwhile."""
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(8):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            name = f"inet:127.0.0.1:{full.getsockname()[1]}"
            dialer = self.dialer(name, f"inet:127.0.0.1:{self.free_port()}")
            self.assertEqual(dialer.dial(0, 200), f"connect to {name}: Connection timed out")
            dialer.order(0, 60000)
            self.assertIn("Connection refused", dialer.dial(1))

    @harness.not_sanitized("its runtime must be the first library")
    def test_slow_name_service(self):
        """A name service that takes too long: it is said when the time is over, what it finds then
        is nobody's, and the next order is taken."""
        place = workspace().directory("slow")
        os.chmod(place, 0o755)
        lock, source, library = (
            os.path.join(place, name) for name in ("lock", "slow.c", "slow.so")
        )
        with open(source, "w", encoding="ascii") as file:
            file.write(SLOW)
        command = ["cc", "-shared", "-fPIC", f'-DLOCK="{lock}"', "-o", library, source]
        self.assertEqual(harness.run(command)[0], 0)
        server = self.server(answering(lambda _: b"x"))
        with open(lock, "w", encoding="ascii") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            dialer = self.dialer(preload=library)
            name = f"inet:slow.invalid:{server.port}"
            dialer.hosts(name, f"inet:127.0.0.1:{server.port}")
            late = dialer.dial(0, 1000)
            self.assertEqual(late, f"look up {name}: the name service takes longer than 1 s")
            first, second = dialer.order(0), dialer.order(1)
        for number in (first, second):
            found, body, fds = receive(dialer.link)
            self.assertEqual((found, struct.unpack("=I", body)[0]), (DIALED, number))
            os.close(fds[0])

    def test_another_order(self):
        """An order in the place of another is what is answered."""
        place = tempfile.mkdtemp(dir=workspace().directory("net"))
        os.chmod(place, 0o755)
        path = os.path.join(place, "socket")
        with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
            full.bind(path)
            os.chmod(path, 0o666)
            full.listen(0)
            first.connect(path)
            dialer = self.dialer(f"unix:{path}", f"inet:127.0.0.1:{self.free_port()}")
            dialer.order(0, 60000)
            self.assertIn("Connection refused", dialer.dial(1))

    def test_breaks_no_rule(self):
        """What an agent may not send ends the dialer, and so the agent."""
        good = "inet:127.0.0.1:25"
        for orders in (
            lambda d: d.order(),  # nothing to connect to yet
            lambda d: (d.hosts(good), d.hosts(good)),
            lambda d: (d.hosts(good), d.order(1)),
            lambda d: (d.hosts(good), d.order(0xFFFFFFFF)),
            lambda d: (d.hosts(good), d.order(0, 3600001)),
            lambda d: d.hosts(good, count=2),
            lambda d: d.hosts(good, good, count=1),
            lambda d: d.hosts("host:25"),
            lambda d: d.hosts("unix:socket"),
            lambda d: send(d.link, HOSTS, struct.pack("=I", 1) + good.encode()),
            lambda d: send(d.link, LINK, struct.pack("=I", 0)),
            lambda d: send(d.link, DIAL, b"xxxx"),
            lambda d: send(d.bridge, LINK, struct.pack("=I", 0), [d.link.fileno()]),
        ):
            dialer = self.dialer()
            orders(dialer)
            self.assertEqual(dialer.wait_exit(), 1)

    def test_ends(self):
        """It ends with its agent, and with the monitor."""
        for end in ("link", "bridge"):
            dialer = self.dialer("inet:127.0.0.1:25")
            getattr(dialer, end).close()
            self.assertEqual(dialer.wait_exit(), 0)

    def test_agent_ends_with_it(self):
        """An agent whose dialer has gone ends at the next connection that it needs."""
        agent = Agent(f"tcp:127.0.0.1:{self.free_port()}")
        agent.dialer_bridge.close()
        harness.wait_exit(agent.dialer, "the dialer to end")
        agent.ask(b"key")
        self.assertEqual(harness.wait_exit(agent.process, "the agent to end"), 0)

    def test_filters(self):
        """Both run behind a filter, without privilege to gain."""
        agent = self.agent("tcp:127.0.0.1:25")
        wait_for(
            lambda: proc.status(agent.dialer.pid)["Seccomp"] == "2",
            "the dialer to enter its filter",
        )
        for pid in (agent.process.pid, agent.dialer.pid):
            self.assertEqual(proc.status(pid)["Seccomp"], "2")
            self.assertEqual(proc.status(pid)["NoNewPrivs"], "1")
