"""A plain client of the proxymap protocol, in both dialects: lists as bytes, one connection, no
cleverness.

Runs inside tests/system/run. It may connect to the sockets that tests give it, also as another user
through a forked child, and must never interpret more of an answer than a test asks it to: tests
compare bytes.
"""

import fcntl
import os
import signal
import select
import socket
import struct
import termios

from waiting import LIMIT, Hung, wait_for

GREETING = b"protocol\0proxymap_protocol\0\0"
OK, NOKEY, RETRY, BAD, DENY, CONFIG = range(6)


def attributes(*pairs, end=True):
    """An attribute list on the wire: attributes("request", "open", "table", "hash:/x", "flags",
    0)."""
    out = b""
    for item in pairs:
        out += (item if isinstance(item, bytes) else str(item).encode()) + b"\0"
    return out + (b"\0" if end else b"")


def o_open(table, flags=0):
    return attributes("request", "open", "table", table, "flags", flags)


def o_lookup(table, key, flags=0):
    return attributes("request", "lookup", "table", table, "flags", flags, "key", key)


def o_update(table, key, value, flags=0):
    return attributes(
        "request", "update", "table", table, "flags", flags, "key", key, "value", value
    )


def o_delete(table, key, flags=0):
    return attributes("request", "delete", "table", table, "flags", flags, "key", key)


def o_sequence(table, function, flags=0):
    return attributes("request", "sequence", "table", table, "flags", flags, "function", function)


def n_open(table, instance=0):
    return attributes("request", "open", "table", table, "instance_flags", instance)


def n_lookup(table, key, instance=0, flags=0):
    return attributes(
        "request", "lookup", "table", table, "instance_flags", instance, "flags", flags, "key", key
    )


def reply(*values):
    """A reply on the wire: reply("status", 0, "value", "x")."""
    return attributes(*values)


class Closed(Exception):
    """The server closed the connection where an answer was expected."""


def connect_as(path, uid=None, gid=None, groups=()):
    """A connected stream socket. With a uid, a forked child that is that user, in those groups,
    connects and passes it back."""
    if uid is None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT)
        connection.connect(path)
        return connection
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.setgroups(list(groups))
            os.setresgid(*[uid if gid is None else gid] * 3)
            os.setresuid(uid, uid, uid)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(path)
            socket.send_fds(theirs, [b"x"], [connection.fileno()])
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    ours.settimeout(LIMIT)
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    os.waitpid(pid, 0)
    if not fds:
        raise ConnectionRefusedError(f"uid {uid} cannot connect to {path}")
    connection = socket.socket(fileno=fds[0])
    connection.settimeout(LIMIT)
    return connection


class Client:
    """A plain client of the proxymap protocol on one connection. Bytes or text in, bytes out."""

    def __init__(self, path, uid=None, gid=None, greeting=True, groups=()):
        self.socket = connect_as(path, uid, gid, groups)
        self.buffer = bytearray()
        if greeting:
            found = self.receive()
            if found != GREETING:
                raise AssertionError(f"greeting is {found!r}")

    def send(self, data):
        self.socket.sendall(data)

    def drained(self):
        """Waits until the server has read every byte sent so far (or closed)."""

        def empty():
            word = fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4))
            return struct.unpack("i", word)[0] == 0

        wait_for(empty, "the server to read what was sent")

    def is_closed(self):
        """Has the server closed the connection?"""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def _more(self):
        try:
            block = self.socket.recv(1 << 18)
        except ConnectionResetError:
            block = b""
        except TimeoutError as error:
            raise Hung(f"no answer; so far {bytes(self.buffer[:200])!r}") from error
        self.buffer += block
        return bool(block)

    def receive(self):
        """One attribute list as raw bytes, terminator included. Raises Closed at end of file."""
        position = 0
        while True:
            # At `position` a name begins; an empty name ends the list.
            end = position
            for part in range(2):
                while True:
                    found = self.buffer.find(b"\0", end)
                    if found >= 0:
                        break
                    if not self._more():
                        raise Closed(f"closed after {bytes(self.buffer[:200])!r}")
                if part == 0 and found == position:
                    taken = bytes(self.buffer[: found + 1])
                    del self.buffer[: found + 1]
                    return taken
                end = found + 1
            position = end

    def receive_until(self, tail):
        """Everything up to and with `tail`; what came before it is returned. Raises Closed at end
        of file."""
        searched = 0
        while True:
            found = self.buffer.find(tail, max(0, searched - len(tail)))
            if found >= 0:
                taken = bytes(self.buffer[:found])
                del self.buffer[: found + len(tail)]
                return taken
            searched = len(self.buffer)
            if not self._more():
                raise Closed(bytes(self.buffer))

    def receive_all(self):
        """Everything up to end of file."""
        while self._more():
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    def ask(self, data):
        """Sends one request and returns the answer as raw bytes."""
        self.send(data)
        return self.receive()

    def call(self, data):
        """Sends one request and returns the answer's values, numbers as int: [0, b"value"]."""
        parts = self.ask(data).split(b"\0")[1:-2:2]
        return [
            int(part) if part.isdigit() and index == 0 else part for index, part in enumerate(parts)
        ]

    def open(self, table, flags=0):
        code, bits = self.call(o_open(table, flags))
        return code, int(bits)

    def lookup(self, table, key, flags=524352):
        """(status, value) of one lookup in dialect O."""
        code, value = self.call(o_lookup(table, key, flags))
        return code, value

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
