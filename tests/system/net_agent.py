"""jailmap-agent-net and its dialer without a daemon: the test is the monitor and the worker, and
the server, too.

Used by test_net_agent.py, inside tests/system/run. It starts the programs as an unprivileged user,
outside any jail, behind their own filters and Landlock. All ends with the run.
"""

import contextlib
import os
import socket
import struct
import threading

import harness
from harness import workspace
from waiting import LIMIT, wait_for

# As in privsep/messages.h and policy/table_type.h.
EVENT, LOADED, FAILED, SOURCE, LINK, QUERY, ANSWER, INPUT = 7, 9, 10, 11, 12, 15, 16, 17
RECHECK, HOSTS, DIAL, DIALED, NOT_DIALED = 25, 30, 31, 32, 33
FOUND, NOT_FOUND, RETRY, CONFIG = 1, 2, 3, 4
FAILING, WORKING, CANNOT = 6, 7, 9
INPUT_DIALER, TYPE_SOCKETMAP, TYPE_TCP, REVEAL_ALL = 5, 16, 17, 0xFFFFFFFF

# And no other descriptor is there: the agent's filter knows its own by their numbers.
BRIDGE_IS_3 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.closerange(4, 1024);"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
NOBODY = "/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs".split()


def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(LIMIT)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ours, theirs


def program(name, preload=None):
    """Starts a helper. Returns its process and the monitor's end of its bridge."""
    ours, theirs = pair()
    with theirs:
        command = ["/usr/bin/python3", "-c", BRIDGE_IS_3, str(theirs.fileno())]
        path = os.path.join(workspace().libexec, name)
        environment = {"PATH": harness.PATH, **({"LD_PRELOAD": preload} if preload else {})}
        process = harness.start(
            [*NOBODY, *command, path], pass_fds=(theirs.fileno(),), env=environment
        )
    return process, ours


def send(link, number, fixed=b"", fds=()):
    socket.send_fds(link, [struct.pack("=2I", number, 0) + fixed], list(fds))


def receive(link):
    """(number, what follows the header, descriptors); number None: the end."""
    data, fds, _, _ = socket.recv_fds(link, 1 << 19, 4)
    if not data:
        return None, b"", []
    return struct.unpack("=2I", data[:8])[0], data[8:], fds


class Dialer:
    """jailmap-dialer, and its agent's end of the link."""

    def __init__(self, preload=None):
        self.process, self.bridge = program("jailmap-dialer", preload)
        self.link, theirs = pair()
        with theirs:
            send(self.bridge, LINK, struct.pack("=I", 0), [theirs.fileno()])
        self.number = 0

    def hosts(self, *names, count=None):
        tail = b"".join(name.encode() + b"\0" for name in names)
        number = len(names) if count is None else count
        send(self.link, HOSTS, struct.pack("=I", number) + tail)

    def order(self, host=0, timeout=10000):
        self.number += 1
        send(self.link, DIAL, struct.pack("=3I", self.number, host, timeout))
        return self.number

    def dial(self, host=0, timeout=10000):
        """A connected socket, or the text that says why there is none."""
        number = self.order(host, timeout)
        found, body, fds = receive(self.link)
        if found is None:
            raise AssertionError("the dialer ended")
        assert struct.unpack("=I", body[:4])[0] == number
        if found == DIALED:
            return socket.socket(fileno=fds[0])
        return body[4:].decode()

    def wait_exit(self):
        return harness.wait_exit(self.process, "the dialer to end")

    def close(self):
        self.bridge.close()
        self.link.close()
        self.wait_exit()


class Agent:
    """jailmap-agent-net with its dialer, for one table."""

    def __init__(self, table, timeout=20):
        kind, name = table.split(":", 1)
        number = TYPE_SOCKETMAP if kind == "socketmap" else TYPE_TCP
        self.dialer, self.dialer_bridge = program("jailmap-dialer")
        self.process, self.bridge = program("jailmap-agent-net")
        near, far = pair()
        with near, far:
            send(self.dialer_bridge, LINK, struct.pack("=I", 0), [near.fileno()])
            send(self.bridge, INPUT, struct.pack("=I", INPUT_DIALER), [far.fileno()])
        limit = struct.pack("=I", 0) + b"\xff" * 32
        source = struct.pack("=2I", number, REVEAL_ALL) + limit + struct.pack("=I", timeout)
        send(self.bridge, SOURCE, source + name.encode())
        self.loaded, body, _ = receive(self.bridge)
        assert self.loaded in (LOADED, FAILED), self.loaded
        self.text = body[4:].decode() if self.loaded == FAILED else ""
        self.link, theirs = pair()
        with theirs:
            if self.loaded == LOADED:
                send(self.bridge, LINK, struct.pack("=I", 0), [theirs.fileno()])
        self.next = 0

    def ask(self, key):
        """Sends a query. Returns its number."""
        self.next += 1
        self.link.send(struct.pack("=2IQ2I", QUERY, 0, self.next, 0, 0) + key)
        return self.next

    def answer(self):
        """(number, status, value) of the next answer."""
        data = self.link.recv(1 << 19)
        if not data:
            raise AssertionError("the agent ended")
        number, zero, query, status, _ = struct.unpack("=2IQ2I", data[:24])
        assert (number, zero) == (ANSWER, 0), data[:24]
        return query, status, data[24:]

    def lookup(self, key):
        query = self.ask(key)
        number, status, value = self.answer()
        assert number == query
        return status, value

    def event(self):
        """(event, text) of the next thing that it tells the monitor."""
        number, body, _ = receive(self.bridge)
        assert number == EVENT, number
        return struct.unpack("=I", body[:4])[0], body[8:].decode()

    def events(self):
        """Those that it has told so far."""
        self.bridge.setblocking(False)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.event())
        self.bridge.settimeout(LIMIT)
        return found

    def close(self):
        for end in (self.bridge, self.dialer_bridge, self.link):
            end.close()
        harness.wait_exit(self.process, "the agent to end")
        harness.wait_exit(self.dialer, "the dialer to end")


class Server:
    """Runs talk(connection, number) in a thread for each connection; None: nobody accepts."""

    def __init__(self, talk, path=None, port=0):
        self.talk, self.count, self.open = talk, 0, []
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            os.chmod(path, 0o666)
        else:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", port))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(64)
        if talk:
            threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                self.count += 1
                work = threading.Thread(
                    target=self.serve, args=(connection, self.count), daemon=True
                )
                work.start()

    def serve(self, connection, number):
        with contextlib.suppress(OSError, StopIteration):
            self.talk(connection, number)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def wait_connections(self, count):
        wait_for(lambda: self.count >= count, f"{count} connections")

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def netstring(text):
    return b"%d:%b," % (len(text), text)


def requests(connection, kind="socketmap"):
    """The requests that come, without their frame, up to the end."""
    data = b""
    while True:
        end = data.find(b":" if kind == "socketmap" else b"\n")
        size = end + 2 + int(data[:end]) if kind == "socketmap" and end >= 0 else end + 1
        if end >= 0 and len(data) >= size:
            yield data[end + 1 : size - 1] if kind == "socketmap" else data[:end]
            data = data[size:]
            continue
        more = connection.recv(1 << 20)
        if not more:
            return
        data += more


def answering(reply, kind="socketmap"):
    """A talk that answers each request with the bytes reply(request), and ends at None."""

    def talk(connection, _):
        for request in requests(connection, kind):
            data = reply(request)
            if data is None:
                return
            connection.sendall(data)

    return talk
