"""A private Postfix from Debian's package, and one SMTP session with it.

Runs as root inside tests/system/run. Configuration, queue and data are below the private directory
of the run, the ports are free ones of the loopback address. It must never read or write the host's
own mail set-up, and ends its processes by pid.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import harness
import proc
from harness import PATH, Workspace, workspace
from waiting import LIMIT, wait_for

DAEMONS = "/usr/lib/postfix/sbin"


def free_ports(count):
    """Different TCP ports that are free on the loopback address now; harness.start() tries again
    when one is taken since."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Postfix:
    """A private Postfix: Debian's programs with their own configuration, queue and data, master in
    the foreground."""

    OWNED = (
        "incoming",
        "active",
        "deferred",
        "bounce",
        "defer",
        "hold",
        "trace",
        "flush",
        "corrupt",
        "saved",
        "private",
    )

    def __init__(self, name, main, services):
        """main: {parameter: value}; services: lines for master.cf; {port0}, {port1} ... become free
        ports."""
        self.directory = workspace().directory(name)
        self.config = os.path.join(self.directory, "config")
        self.queue = os.path.join(self.directory, "queue")
        self.log_path = os.path.join(self.directory, "log")
        harness.logs[self.log_path] = 0
        self.services = services
        self.process = None
        self.ports = []
        owner = pwd.getpwnam("postfix").pw_uid
        data = os.path.join(self.directory, "data")
        for path in (self.config, self.queue, data):
            os.mkdir(path)
        os.mkdir(os.path.join(self.queue, "pid"))
        for path in (data, *(os.path.join(self.queue, part) for part in self.OWNED)):
            if not os.path.exists(path):
                os.mkdir(path)
            os.chown(path, owner, 0)
            os.chmod(path, 0o700)
        for part, mode in (("public", 0o710), ("maildrop", 0o730)):
            path = os.path.join(self.queue, part)
            os.mkdir(path)
            shutil.chown(path, owner, "postdrop")
            os.chmod(path, mode)
        base = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue,
            "data_directory": data,
            "daemon_directory": DAEMONS,
            "command_directory": "/usr/sbin",
            "meta_directory": self.config,
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "maillog_file": self.log_path,
            "maillog_file_prefixes": self.directory,
            "multi_instance_enable": "no",
            "service_throttle_time": "1s",
            "myhostname": "mx.test",
            "alias_maps": "",
            "alias_database": "",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
        }
        base.update(main)
        Workspace.write(
            self.config, "main.cf", "".join(f"{name} = {value}\n" for name, value in base.items())
        )
        # The types that Debian packages apart, as their packages declare them.
        lines = [
            f"{kind} postfix-{kind}.so dict_{kind}_open mkmap_{kind}_open\n"
            for kind in ("cdb", "lmdb")
        ]
        lines += [
            f"{kind} postfix-{kind}.so dict_{kind}_open\n"
            for kind in ("mysql", "pcre", "pgsql", "sqlite")
        ]
        Workspace.write(self.config, "dynamicmaps.cf", "".join(lines))
        workspace().at_end(self.stop)

    def start(self, wrap=()):
        for attempt in range(10):
            lines = "".join(
                line + "\n" for line in ["postlog unix-dgram n - n - 1 postlogd", *self.services]
            )
            self.ports = free_ports(len(set(re.findall(r"\{port\d\}", lines))))
            for index, port in enumerate(self.ports):
                lines = lines.replace(f"{{port{index}}}", str(port))
            Workspace.write(self.config, "master.cf", lines)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.log_path)
            self.process = harness.start(
                [*wrap, f"{DAEMONS}/master", "-s", "-c", self.config],
                env={"PATH": PATH, "MAIL_CONFIG": self.config},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_for(
                lambda: "daemon started" in self.log() or self.process.poll() is not None,
                lambda: "the private Postfix to start:\n" + self.log(),
            )
            if self.process.poll() is None:
                return self
            harness.registry.remove(self.process)
            if "Address already in use" not in self.log():
                raise AssertionError("the private Postfix did not start:\n" + self.log())
        raise AssertionError(f"no free port in {attempt + 1} attempts")

    def log(self):
        try:
            return proc.read(self.log_path)
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern):
        return wait_for(
            lambda: re.search(pattern, self.log()),
            lambda: f"Postfix log line /{pattern}/ in:\n{self.log()[-4000:]}",
        )

    def daemons(self, name):
        """Pids of master's children that run the Postfix daemon `name`."""
        path = os.path.join(DAEMONS, name)
        return [pid for pid in proc.children(self.process.pid) if proc.exe(pid) == path]

    def reload(self):
        """Replaces every smtpd. One that began while its map server's socket was missing has taken
        the long path to it for its life, which leads nowhere once it is in its jail."""
        before = proc.snapshot(self.process.pid)
        old = {pid: before[pid] for pid in self.daemons("smtpd") if pid in before}
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not proc.survivors(old), "the old smtpd processes to end")

    def private(self, service):
        return os.path.join(self.queue, "private", service)

    def stop(self):
        """Ends master and then sees to it, pid by pid, that everything below it ended."""
        if self.process is None:
            return
        process, self.process = self.process, None
        below = proc.snapshot(process.pid)
        if process.poll() is None:
            process.terminate()
        harness.wait_exit(process, "Postfix master to stop")
        for pid in proc.survivors(below):
            with contextlib.suppress(ProcessLookupError):
                harness.kill(pid, signal.SIGTERM)
        wait_for(lambda: not proc.survivors(below), "the daemons of Postfix to end")

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        self.stop()


class Smtp:
    """One SMTP session, line by line."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.file = self.socket.makefile("rb")
        self.expect("220", self.answer())
        self.say("EHLO client.test", "250")

    def answer(self):
        lines = []
        while True:
            line = self.file.readline().decode(errors="replace").rstrip("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    @staticmethod
    def expect(code, answer):
        if not answer.startswith(code):
            raise AssertionError(f"expected {code}, got {answer!r}")
        return answer

    def say(self, line, code=None):
        self.socket.sendall(line.encode() + b"\r\n")
        answer = self.answer()
        return self.expect(code, answer) if code else answer

    def recipient(self, address):
        """The answer to RCPT TO in a fresh transaction of this session."""
        self.say("RSET", "250")
        self.say("MAIL FROM:<sender@elsewhere.test>", "250")
        return self.say(f"RCPT TO:<{address}>")

    def deliver(self, address, body):
        self.expect("250", self.recipient(address))
        self.say("DATA", "354")
        return self.say(body + "\r\n.", "250")

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(b"QUIT\r\n")
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
