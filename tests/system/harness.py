"""What the system tests stand on: a private directory, real daemons, a protocol client, and /proc.

Runs as root inside tests/system/run. It may write below one directory that it makes itself in /var/lib, start
processes, and signal processes that it started or inherited from those (it makes itself the reaper of orphans, so
that nothing it caused can escape). It must never touch the host's mail set-up, end a process by name, or sleep
where a test's truth would depend on the time slept: everything waits for a condition.
"""

import atexit
import contextlib
import ctypes
import fcntl
import itertools
import os
import pwd
import re
import shutil
import signal
import socket

import struct
import subprocess
import sys
import tempfile
import termios
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GREETING = b"protocol\0proxymap_protocol\0\0"
# The unprivileged account that the daemon's children run as. Every system has it, so no test creates users.
JAIL_USER = "nobody"
JAIL = pwd.getpwnam(JAIL_USER)

# How long a condition may take before the test gives up. It bounds a hang; no test depends on its value.
LIMIT = float(os.environ.get("LIM", "90"))

OK, NOKEY, RETRY, BAD, DENY, CONFIG = range(6)

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP arrived. A KeyboardInterrupt, so that unittest lets it through."""


class Hung(AssertionError):
    """A condition did not come true within the limit."""


# ---------------------------------------------------------------------------------------------------- waiting


def wait_for(condition, what, limit=LIMIT):
    """Returns condition() as soon as it is true; raises Hung naming `what` (text or function) if it never is."""
    end = time.monotonic() + limit
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Hung("waited in vain for " + (what() if callable(what) else what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# ---------------------------------------------------------------------------------------------------- /proc


def _read(path, mode="r"):
    with open(path, mode, **({} if "b" in mode else {"errors": "replace"})) as file:
        return file.read()


def stat_fields(pid):
    """(state, parent pid, start time) of a process, or None when there is none."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2:].split()
    return fields[0], int(fields[1]), int(fields[19])


def alive(pid):
    """True when the process exists and is not a zombie."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def some_children(pid):
    """Pids of direct children as the kernel lists them: quick, but it may leave some out while others end."""
    try:
        return [int(text) for text in _read(f"/proc/{pid}/task/{pid}/children").split() if alive(text)]
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(pid):
    """Pids of the direct children of `pid`, zombies not counted, in order of pid."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields and fields[1] == pid and fields[0] not in "ZX":
                found.append(int(name))
    return sorted(found)


def descendants(pid):
    """Pids of everything below `pid`."""
    found, todo = [], [pid]
    while todo:
        for child in children(todo.pop()):
            found.append(child)
            todo.append(child)
    return found


def exe(pid):
    """Path of the program that a process runs; empty when it is gone or has none."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def program(pid):
    return os.path.basename(exe(pid))


def arguments(pid):
    """The command line of a process as a list; empty when it is gone."""
    try:
        return _read(f"/proc/{pid}/cmdline").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def status(pid):
    """/proc/PID/status as a dictionary of strings."""
    lines = _read(f"/proc/{pid}/status").splitlines()
    return dict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))


def capabilities(pid, which):
    """A capability set (CapEff, ...) as a set of bit numbers."""
    mask = int(status(pid)[which], 16)
    return {bit for bit in range(64) if mask >> bit & 1}


def unix_sockets():
    """inode -> (type, path, state) of every UNIX socket that /proc/net/unix shows; type 1 stream, 2 datagram, 5 seqpacket."""
    table = {}
    for line in _read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        table[int(fields[6])] = (int(fields[4], 16), fields[7] if len(fields) > 7 else "", int(fields[5], 16))
    return table


def descriptors(pid):
    """fd number -> link text of every open descriptor."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def descriptor_flags(pid, fd):
    """The open(2) flags of a descriptor."""
    return int(re.search(r"^flags:\s*(\d+)", _read(f"/proc/{pid}/fdinfo/{fd}"), re.M).group(1), 8)


def classify(pid):
    """fd number -> what it is, one word (with a path where that matters), for a process of jailmapd."""
    sockets = unix_sockets()
    kinds = {}
    for fd, link in descriptors(pid).items():
        match = re.fullmatch(r"socket:\[(\d+)\]", link)
        if match:
            kind = sockets.get(int(match.group(1)))
            if kind is None:
                kinds[fd] = "foreign-socket"
            else:
                name = {1: "stream", 2: "datagram", 5: "seqpacket"}.get(kind[0], "socket")
                kinds[fd] = name + (":" + kind[1] if kind[1] else "")
        elif link.startswith("anon_inode:"):
            kinds[fd] = link.removeprefix("anon_inode:").strip("[]")
        elif link.startswith("/memfd:"):
            kinds[fd] = "memfd"
        elif link.startswith("pipe:"):
            kinds[fd] = "pipe"
        else:
            kinds[fd] = link
    return kinds


def memory(pid, files=True):
    """All readable memory of a process, and what its memory files hold, as one bytes object: what a takeover of it
    would see. Without `files`, only what is in its address space."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in _read(f"/proc/{pid}/maps").splitlines():
            span, rights = line.split()[:2]
            if "r" not in rights or line.endswith(("[vsyscall]", "[vvar]", "[vvar_vclock]")):
                continue
            start, end = (int(text, 16) for text in span.split("-"))
            while start < end:
                try:
                    block = os.pread(mem.fileno(), min(end - start, 1 << 22), start)
                except OSError:
                    break
                if not block:
                    break
                parts.append(block)
                start += len(block)
    for fd, kind in classify(pid).items() if files else ():
        if kind == "memfd":
            with contextlib.suppress(OSError):
                parts.append(_read(f"/proc/{pid}/fd/{fd}", "rb"))
    return b"\n".join(parts)


# ---------------------------------------------------------------------------------------------------- workspace


class Workspace:
    """The private directory of one run, the programs installed into it, and everything started in it."""

    def __init__(self):
        if os.geteuid() != 0:
            sys.exit("tests/system/run: must run as root: it starts jailmapd and a private Postfix")
        self.owner = os.getpid()
        self.counter = itertools.count(1)
        self.stops = []
        self.root = None
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.umask(0o022)
        atexit.register(self.close)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        self.root = tempfile.mkdtemp(prefix="jailmap-check.", dir="/var/lib")
        os.chmod(self.root, 0o755)
        self.prefix = os.path.join(self.root, "usr")
        self.jailmapd = os.path.join(self.prefix, "sbin/jailmapd")
        self.jailmap = os.path.join(self.prefix, "bin/jailmap")
        self.libexec = os.path.join(self.prefix, "libexec/jailmap")
        # A Postfix configuration only for postmap and postalias. Without UTF-8 checks they store any byte.
        self.map_config = self.directory("maps-config")
        self.write(self.map_config, "main.cf", "compatibility_level = 3.6\nsmtputf8_enable = no\nmaillog_file =\n")

    @staticmethod
    def _stop(number, _frame):
        raise Stopped(signal.Signals(number).name)

    def install(self):
        """Builds and installs the programs into the private directory; once for each run."""
        command = ["make", "-C", REPOSITORY, "--no-print-directory", "install", "DESTDIR=",
                   "prefix=" + self.prefix, "sysconfdir=" + os.path.join(self.root, "etc")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"tests/system/run: {' '.join(command)} failed:\n{done.stdout}")
        for path in (self.jailmapd, self.jailmap):
            if not os.access(path, os.X_OK):
                sys.exit(f"tests/system/run: make install did not install {path}")

    def directory(self, name, mode=0o755, owner=(0, 0)):
        """A new directory in the private one; `name` gets a number so that no two tests share one."""
        path = os.path.join(self.root, f"{name}.{next(self.counter)}")
        os.mkdir(path)
        os.chown(path, *owner)
        os.chmod(path, mode)
        return path

    @staticmethod
    def write(directory, name, content, mode=0o644):
        path = os.path.join(directory, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        return path

    def at_end(self, stop):
        """Registers a function that ends something; called in reverse order."""
        self.stops.append(stop)

    def close(self):
        """Ends everything this run started and removes the directory. Safe to call twice and from anywhere."""
        if os.getpid() != self.owner or self.root is None:
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while self.stops:
            with contextlib.suppress(Exception):
                self.stops.pop()()
        end_all()
        shutil.rmtree(self.root, ignore_errors=True)
        if os.path.exists(self.root):
            print(f"tests/system/run: could not remove {self.root}", file=sys.stderr)
        self.root = None


def end_all():
    """Kills whatever is still below this process; orphans are, because it is their reaper."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        left = descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        if not left:
            return
        time.sleep(0.01)


def reap(keep=()):
    """Collects orphans that ended. Children that a Popen object waits for are left to it."""
    known = {process.pid for process in subprocess_registry} | set(keep)
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in known:
            fields = stat_fields(name)
            if fields and fields[1] == os.getpid() and fields[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(name), os.WNOHANG)


subprocess_registry = []
_logs = {}
_workspace = None


def new_log_lines(limit=12, width=300):
    """(path, lines) of each daemon log that grew since the last call; a runner shows them below a failed test."""
    for path, seen in _logs.items():
        with contextlib.suppress(FileNotFoundError):
            with open(path, "rb") as file:
                file.seek(seen)
                lines = file.read().decode(errors="replace").splitlines()
                _logs[path] = file.tell()
            if lines:
                yield path, [line if len(line) <= width else line[:width] + " ..." for line in lines[-limit:]]


def workspace():
    """The run's workspace; the first call makes it and installs the programs."""
    global _workspace
    if _workspace is None:
        _workspace = Workspace()
        _workspace.install()
    return _workspace


# ---------------------------------------------------------------------------------------------------- processes


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(command, **options):
    """Popen in its own session (Ctrl-C reaches only the runner, which ends it), with a clean environment."""
    options.setdefault("env", {"PATH": PATH})
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("cwd", "/")
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent, **options)
    subprocess_registry.append(process)
    return process


def run(command, stdin=b"", **options):
    """Runs a command to its end; returns (exit status, stdout, stderr) with text decoded."""
    options.setdefault("env", {"PATH": PATH})
    options.setdefault("cwd", "/")
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=False, **options)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def wait_exit(process, what):
    """The exit status of a Popen object, once it ends."""
    wait_for(lambda: process.poll() is not None, what)
    if process in subprocess_registry:
        subprocess_registry.remove(process)
    return process.returncode


def kill(pid, number=signal.SIGKILL):
    """Signals one process, given by pid, that belongs to this run."""
    if pid not in descendants(os.getpid()):
        raise ProcessLookupError(f"pid {pid} is not a process of this run")
    os.kill(pid, number)


# ---------------------------------------------------------------------------------------------------- maps


def postmap(kind, path, text=None, *options, tool="postmap"):
    """Builds kind:path (path without suffix) with the system's postmap; `text` becomes its source file."""
    if text is not None:
        Workspace.write(os.path.dirname(path), os.path.basename(path), text)
    code, _, errors = run([f"/usr/sbin/{tool}", "-c", workspace().map_config, *options, f"{kind}:{path}"])
    if code != 0:
        raise AssertionError(f"{tool} {kind}:{path}: {errors}")


def entries(count, prefix="key", value="value"):
    return "".join(f"{prefix}{number} {value}{number}\n" for number in range(count))


# ---------------------------------------------------------------------------------------------------- jailmapd


def config_text(runtime, *, tables=(), allow=None, listen=None, user=JAIL_USER, libexec=None):
    """The text of a jailmapd.conf.

    tables: names, or (name, {option: value}) pairs. allow: {who: [names]}, default root everything.
    listen: {path: {option: value}}.
    """
    def option(name, value):
        return f"    {name} = {value if isinstance(value, int) else quote(value)}\n"

    def quote(text):
        return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = f"user = {quote(user)}\nruntime-dir = {quote(runtime)}\n"
    text += f"libexec-dir = {quote(libexec or workspace().libexec)}\n"
    for path, options in (listen or {}).items():
        text += f"listen {quote(path)} {{\n    protocol = proxymap\n"
        for name, value in options.items():
            text += f"    {name} = {value}\n" if name == "mode" else option(name, value)
        text += "}\n"
    for table in tables:
        name, options = table if isinstance(table, tuple) else (table, {})
        text += f"table {quote(name)} {{\n" + "".join(option(*item) for item in options.items()) + "}\n"
    for who, names in ({"root": ["*"]} if allow is None else allow).items():
        text += f"allow {quote(who)} {{ tables = {{{', '.join(quote(name) for name in names)}}} }}\n"
    return text


class Jailmapd:
    """One jailmapd in the foreground with its own directory: configuration, run directory, socket, captured log."""

    ROLES = {"jailmap-worker": "worker", "jailmap-loader": "loader", "jailmap-scribe": "scribe",
             "jailmap-agent-nss": "agent"}

    def __init__(self, name="jailmapd", *, tables=(), allow=None, listen=None, socket_options=None, libexec=None,
                 text=None):
        self.directory = workspace().directory(name)
        self.runtime = os.path.join(self.directory, "run")
        self.socket = os.path.join(self.directory, "socket")
        if listen is None:
            listen = {self.socket: {"mode": "0666", **(socket_options or {})}}
        else:
            self.socket = next(iter(listen))
        if text is None:
            text = config_text(self.runtime, tables=tables, allow=allow, listen=listen, libexec=libexec)
        self.config = Workspace.write(self.directory, "jailmapd.conf", text)
        self.log_path = os.path.join(self.directory, "stderr")
        _logs[self.log_path] = 0
        self.process = None
        workspace().at_end(self.stop)

    def start(self, wrap=(), env=None, ready=True):
        """Starts `jailmapd -f` (inside `wrap`, if given) and waits for its ready line."""
        mark = self.mark()
        with open(self.log_path, "ab") as log:
            self.process = start([*wrap, workspace().jailmapd, "-f", "-c", self.config], stdout=log, stderr=log,
                                 env={"PATH": PATH, **(env or {})})
        if ready:
            self.wait_log(r"ready: ", since=mark)
        return self

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        """SIGTERM and wait; returns the exit status, or None when it did not run."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        below = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
        try:
            code = wait_exit(process, "jailmapd to stop after SIGTERM")
        except Hung:
            process.kill()
            wait_exit(process, "jailmapd to end after SIGKILL")
            raise
        wait_for(lambda: reap() or not any(map(alive, below)), "the children of a stopped jailmapd to end")
        reap()
        return code

    def mark(self):
        """The present end of the log; give it to log() and wait_log() to look only at what comes after."""
        try:
            return os.path.getsize(self.log_path)
        except FileNotFoundError:
            return 0

    def log(self, since=0):
        try:
            with open(self.log_path, "rb") as file:
                file.seek(since)
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, since=0):
        """Waits until the log has a line that contains `pattern` (a regular expression); returns the match."""
        def look():
            if self.process is not None and self.process.poll() is not None:
                match = re.search(pattern, self.log(since))
                if not match:
                    raise AssertionError(f"jailmapd ended with {self.process.returncode} before it logged"
                                         f" /{pattern}/:\n{self.log(since)}")
                return match
            return re.search(pattern, self.log(since), re.M)
        return wait_for(look, lambda: f"log line /{pattern}/ in:\n{self.log(since)[-4000:]}")

    def roles(self):
        """role -> pids of the monitor's children, by the program that each runs."""
        found = {role: [] for role in self.ROLES.values()}
        for pid in children(self.pid):
            role = self.ROLES.get(program(pid))
            if role:
                found[role].append(pid)
        return found

    def wait_roles(self, role, count=1):
        """Pids of `count` or more running children in a role, as soon as there are that many."""
        return wait_for(lambda: (lambda pids: pids if len(pids) >= count else None)(self.roles()[role]),
                        f"{count} {role} process(es) of jailmapd")

    def client(self, **options):
        return Client(self.socket, **options)

    def query(self, *arguments, stdin=b""):
        """Runs `jailmap query -s SOCKET ...`; returns (exit status, stdout, stderr)."""
        return run([workspace().jailmap, "query", "-s", self.socket, *arguments], stdin=stdin)

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        self.stop()


# ---------------------------------------------------------------------------------------------------- client


def attributes(*pairs, end=True):
    """An attribute list on the wire: attributes("request", "open", "table", "hash:/x", "flags", 0)."""
    out = b""
    for item in pairs:
        out += (item if isinstance(item, bytes) else str(item).encode()) + b"\0"
    return out + (b"\0" if end else b"")


def o_open(table, flags=0):
    return attributes("request", "open", "table", table, "flags", flags)


def o_lookup(table, key, flags=0):
    return attributes("request", "lookup", "table", table, "flags", flags, "key", key)


def o_update(table, key, value, flags=0):
    return attributes("request", "update", "table", table, "flags", flags, "key", key, "value", value)


def o_delete(table, key, flags=0):
    return attributes("request", "delete", "table", table, "flags", flags, "key", key)


def o_sequence(table, function, flags=0):
    return attributes("request", "sequence", "table", table, "flags", flags, "function", function)


def n_open(table, instance=0):
    return attributes("request", "open", "table", table, "instance_flags", instance)


def n_lookup(table, key, instance=0, flags=0):
    return attributes("request", "lookup", "table", table, "instance_flags", instance, "flags", flags, "key", key)


def reply(*values):
    """A reply on the wire: reply("status", 0, "value", "x")."""
    return attributes(*values)


class Closed(Exception):
    """The server closed the connection where an answer was expected."""


def connect_as(path, uid=None, gid=None):
    """A connected stream socket. With a uid, a forked child that is that user connects and passes it back."""
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
            os.setgroups([])
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

    def __init__(self, path, uid=None, gid=None, greeting=True):
        self.socket = connect_as(path, uid, gid)
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
                    taken = bytes(self.buffer[:found + 1])
                    del self.buffer[:found + 1]
                    return taken
                end = found + 1
            position = end

    def receive_until(self, tail):
        """Everything up to and with `tail`; what came before it is returned. Raises Closed at end of file."""
        searched = 0
        while True:
            found = self.buffer.find(tail, max(0, searched - len(tail)))
            if found >= 0:
                taken = bytes(self.buffer[:found])
                del self.buffer[:found + len(tail)]
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
        return [int(part) if part.isdigit() and index == 0 else part for index, part in enumerate(parts)]

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


# ---------------------------------------------------------------------------------------------------- Postfix


def free_ports(count):
    """Different TCP ports that are free on the loopback address now; start() tries again when one is taken since."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Postfix:
    """A private Postfix: Debian's programs with their own configuration, queue and data, master in the foreground."""

    OWNED = ("incoming", "active", "deferred", "bounce", "defer", "hold", "trace", "flush", "corrupt", "saved",
             "private")

    def __init__(self, name, main, services):
        """main: {parameter: value}; services: lines for master.cf; {port0}, {port1} ... become free ports."""
        self.directory = workspace().directory(name)
        self.config = os.path.join(self.directory, "config")
        self.queue = os.path.join(self.directory, "queue")
        self.log_path = os.path.join(self.directory, "log")
        _logs[self.log_path] = 0
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
            "compatibility_level": "3.6", "queue_directory": self.queue, "data_directory": data,
            "daemon_directory": POSTFIX_DAEMONS, "command_directory": "/usr/sbin", "meta_directory": self.config,
            "mail_owner": "postfix", "setgid_group": "postdrop", "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4", "maillog_file": self.log_path, "maillog_file_prefixes": self.directory,
            "multi_instance_enable": "no", "service_throttle_time": "1s", "myhostname": "mx.test",
            "alias_maps": "", "alias_database": "", "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native", "smtpd_peername_lookup": "no",
        }
        base.update(main)
        Workspace.write(self.config, "main.cf", "".join(f"{name} = {value}\n" for name, value in base.items()))
        workspace().at_end(self.stop)

    def start(self):
        for attempt in range(10):
            lines = "".join(line + "\n" for line in ["postlog unix-dgram n - n - 1 postlogd", *self.services])
            self.ports = free_ports(len(set(re.findall(r"\{port\d\}", lines))))
            for index, port in enumerate(self.ports):
                lines = lines.replace(f"{{port{index}}}", str(port))
            Workspace.write(self.config, "master.cf", lines)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.log_path)
            self.process = start([f"{POSTFIX_DAEMONS}/master", "-s", "-c", self.config],
                                 env={"PATH": PATH, "MAIL_CONFIG": self.config},
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: "daemon started" in self.log() or self.process.poll() is not None,
                     lambda: "the private Postfix to start:\n" + self.log())
            if self.process.poll() is None:
                return self
            subprocess_registry.remove(self.process)
            if "Address already in use" not in self.log():
                raise AssertionError("the private Postfix did not start:\n" + self.log())
        raise AssertionError(f"no free port in {attempt + 1} attempts")

    def log(self):
        try:
            return _read(self.log_path)
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern):
        return wait_for(lambda: re.search(pattern, self.log()),
                        lambda: f"Postfix log line /{pattern}/ in:\n{self.log()[-4000:]}")

    def daemons(self, name):
        """Pids of master's children that run the Postfix daemon `name`."""
        path = os.path.join(POSTFIX_DAEMONS, name)
        return [pid for pid in children(self.process.pid) if exe(pid) == path]

    def private(self, service):
        return os.path.join(self.queue, "private", service)

    def stop(self):
        """Ends master and then sees to it, pid by pid, that everything below it ended."""
        if self.process is None:
            return
        process, self.process = self.process, None
        below = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
        wait_exit(process, "Postfix master to stop")
        for pid in below:
            if alive(pid) and pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        wait_for(lambda: reap() or not any(map(alive, below)), "the daemons of Postfix to end")
        reap()

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
