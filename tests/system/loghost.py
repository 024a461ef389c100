"""A /dev of its own with a log socket, for programs that report to syslog(3) only.

Runs as root inside tests/system/run. It makes a directory with the few devices that a daemon needs,
which is mounted over /dev in a private mount namespace; the host's /dev is not touched.
"""

import os
import re
import socket
import stat
import threading

import harness
import nameservice
from harness import workspace
from waiting import wait_for

# The last two and the directories are there for what makes another /dev of this one (systemd).
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "ptmx": (5, 2),
}


class LogHost:
    """Collects what is sent to the log socket, one line for each message."""

    def __init__(self):
        self.directory = workspace().directory("dev")
        for name, (major, minor) in _DEVICES.items():
            path = os.path.join(self.directory, name)
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(path, 0o666)
        for name in ("pts", "shm"):
            os.mkdir(os.path.join(self.directory, name))
        self.path = os.path.join(workspace().directory("syslog"), "lines")
        with open(self.path, "wb"):
            harness.logs[self.path] = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(self.directory, "log"))
        os.chmod(os.path.join(self.directory, "log"), 0o666)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        with open(self.path, "ab", buffering=0) as file:
            while True:
                text = self.socket.recv(65536)
                if not text:
                    return
                file.write(text.rstrip(b"\n\0") + b"\n")

    def wrap(self):
        """What to put before a command so that it logs here."""
        return nameservice.namespace({"/dev": self.directory})

    def mark(self):
        return os.path.getsize(self.path)

    def log(self, since=0):
        with open(self.path, "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def wait(self, pattern, since=0):
        return wait_for(
            lambda: re.search(pattern, self.log(since), re.M),
            lambda: f"syslog line /{pattern}/ in:\n{self.log(since)[-4000:]}",
        )

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", os.path.join(self.directory, "log"))
        self.thread.join()
        self.socket.close()
