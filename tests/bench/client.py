"""A proxymap client for one lookup at a time, where load, which makes many, says too little.

Runs inside tests/bench/run; it only connects to sockets of servers that the bench started.
"""

import socket

FLAGS = 524352  # what smtpd(8) sends
GREETING = b"protocol\0proxymap_protocol\0\0"
OK, NOT_FOUND, RETRY = 0, 1, 2


class Client:
    """One connection, for one table."""

    def __init__(self, path, table, patience=30):
        self.table = table
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        try:
            self.socket.connect(path)
            if self.socket.recv(len(GREETING), socket.MSG_WAITALL) != GREETING:
                raise ConnectionError(f"{path}: no greeting")
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def lookup(self, key):
        """(status, value) of one key."""
        request = f"request\0lookup\0table\0{self.table}\0flags\0{FLAGS}\0key\0{key}\0\0"
        self.socket.sendall(request.encode())
        reply = b""
        while reply.count(b"\0") < 5:  # two names, two values, the end
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("the server closed the connection")
            reply += part
        parts = reply.decode().split("\0")
        if len(parts) != 6 or (parts[0], parts[2]) != ("status", "value"):
            raise ConnectionError(f"malformed reply {reply!r}")
        return int(parts[1]), parts[3]


def greets(path):
    """True when a server accepts a connection there and says the right thing."""
    try:
        with Client(path, "", patience=2):
            return True
    except OSError:
        return False
