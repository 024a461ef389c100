"""What the system tests stand on: a private directory, the programs installed into it, and daemons
that end with the run.

Runs as root inside tests/system/run. It may write below one directory that it makes itself in
/var/lib, start processes, and signal processes that it started or inherited from those (it makes
itself the reaper of orphans, so that nothing it caused can escape). It must never touch the host's
mail set-up, end a process by name, or sleep where a test's truth would depend on the time slept:
everything waits for a condition.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import proc
import protocol
from protocol import RETRY
from waiting import LIMIT, Hung, wait_for

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The unprivileged account that the daemon's children run as. Every system has it, so no test
# creates users.
JAIL_USER = "nobody"
JAIL = pwd.getpwnam(JAIL_USER)


_libc = ctypes.CDLL(None, use_errno=True)
_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP arrived. A KeyboardInterrupt, so that unittest lets it through."""


@contextlib.contextmanager
def building():
    """One run at a time builds: each has its own prefix, which some objects have in them."""
    place = os.open(REPOSITORY, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


class Workspace:
    """The private directory of one run, the programs installed into it, and everything started in
    it."""

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
        # A Postfix configuration only for postmap and postalias. Without UTF-8 checks they store
        # any byte.
        self.map_config = self.directory("maps-config")
        self.write(
            self.map_config,
            "main.cf",
            "compatibility_level = 3.6\nsmtputf8_enable = no\nmaillog_file =\n",
        )

    @staticmethod
    def _stop(number, _frame):
        raise Stopped(signal.Signals(number).name)

    def install(self):
        """Builds and installs the programs into the private directory; once for each run."""
        command = [
            "make",
            "-C",
            REPOSITORY,
            "--no-print-directory",
            "install",
            "DESTDIR=",
            "prefix=" + self.prefix,
            "sysconfdir=" + os.path.join(self.root, "etc"),
        ]
        with building():
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            sys.exit(f"tests/system/run: {' '.join(command)} failed:\n{done.stdout}")
        for path in (self.jailmapd, self.jailmap):
            if not os.access(path, os.X_OK):
                sys.exit(f"tests/system/run: make install did not install {path}")

    def directory(self, name, mode=0o755, owner=(0, 0)):
        """A new directory in the private one; `name` gets a number so that no two tests share
        one."""
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
        """Ends everything this run started and removes the directory. Safe to call twice and from
        anywhere."""
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
        left = proc.descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        if not left:
            return
        time.sleep(0.01)


def reap(keep=()):
    """Collects orphans that ended. Children that a Popen object waits for are left to it."""
    known = {process.pid for process in registry} | set(keep)
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in known:
            fields = proc.stat_fields(name)
            if fields and fields[1] == os.getpid() and fields[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(name), os.WNOHANG)


def wait_ended(taken, what):
    """Waits until every process of a proc.snapshot() has ended. Those that have lost their parent
    are reaped meanwhile, as the init of a system does: the first process of a pid namespace does
    not end before that."""

    def ended():
        reap()
        return not proc.survivors(taken)

    wait_for(ended, what)


class Opens:
    """Counts how often a file is opened, by anybody: so it is seen that somebody looks at it."""

    def __init__(self, path):
        self.fd = _libc.inotify_init1(_IN_NONBLOCK)
        self.count = 0
        if self.fd < 0 or _libc.inotify_add_watch(self.fd, os.fsencode(path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify", path)

    def wait(self, count):
        """Waits until it was opened so many times more. Those between two looks count as one."""
        goal = self.count + count

        def enough():
            with contextlib.suppress(BlockingIOError):
                self.count += len(os.read(self.fd, 65536)) // 16
            return self.count >= goal

        wait_for(enough, f"a file to be opened {count} times")

    def close(self):
        os.close(self.fd)


registry = []
logs = {}
_reported = {}
_workspace = None

# What a program of `make system-sanitized` says when it has found an error, or its parent of it
# (tests/sanitized/options.h has the status).
REPORT = re.compile(r"ERROR: \w+Sanitizer|runtime error:|Sanitizer CHECK failed|exit status 99\b")


# With which the reasons of skipped tests begin that such programs do not allow.
NOT_SANITIZED = "not with sanitizers"
# And with which those begin that need what a machine may not have.
NOT_HERE = "not on this machine"


@functools.cache
def sanitized():
    """True when the programs under test have sanitizers in them."""
    with open(workspace().jailmapd, "rb") as program:
        return b"__asan_default_options" in program.read()


def not_sanitized(reason):
    """Decorates a test of something that is different by nature in `make system-sanitized`, which
    skips it."""

    def decorate(test):
        @functools.wraps(test)
        def run_unless(self):
            if sanitized():
                raise unittest.SkipTest(f"{NOT_SANITIZED}: {reason}")
            return test(self)

        return run_unless

    return decorate


def sanitizer_reports():
    """What each daemon log has had since the last call from the first line on that says that a
    sanitizer found something."""
    for path in logs:
        with contextlib.suppress(FileNotFoundError):
            with open(path, "rb") as file:
                file.seek(_reported.get(path, 0))
                text = file.read().decode(errors="replace")
                _reported[path] = file.tell()
            found = REPORT.search(text)
            if found:
                start = text.rfind("\n", 0, found.start()) + 1
                yield f"a sanitizer's report in {path}:\n{text[start : start + 6000]}"


def new_log_lines(limit=12, width=300):
    """(path, lines) of each daemon log that grew since the last call; a runner shows them below a
    failed test."""
    for path, seen in logs.items():
        with contextlib.suppress(FileNotFoundError):
            with open(path, "rb") as file:
                file.seek(seen)
                lines = file.read().decode(errors="replace").splitlines()
                logs[path] = file.tell()
            if lines:
                yield path, [
                    line if len(line) <= width else line[:width] + " ..." for line in lines[-limit:]
                ]


def workspace():
    """The run's workspace; the first call makes it and installs the programs."""
    global _workspace
    if _workspace is None:
        _workspace = Workspace()
        _workspace.install()
    return _workspace


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(command, **options):
    """Popen in its own session (Ctrl-C reaches only the runner, which ends it), with a clean
    environment."""
    options.setdefault("env", {"PATH": PATH})
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("cwd", "/")
    process = subprocess.Popen(
        command, start_new_session=True, preexec_fn=_die_with_parent, **options
    )
    registry.append(process)
    return process


def run(command, stdin=b"", **options):
    """Runs a command to its end; returns (exit status, stdout, stderr) with text decoded."""
    options.setdefault("env", {"PATH": PATH})
    options.setdefault("cwd", "/")
    # Not a pipe: where children may report what a sanitizer finds, a daemon's keep it.
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=LIMIT,
            check=False,
            **options,
        )
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if REPORT.search(text):
        raise AssertionError(f"a sanitizer's report of {command}:\n{text}")
    return done.returncode, done.stdout.decode(errors="replace"), text


def wait_exit(process, what):
    """The exit status of a Popen object, once it ends."""
    wait_for(lambda: process.poll() is not None, what)
    if process in registry:
        registry.remove(process)
    return process.returncode


def kill(pid, number=signal.SIGKILL):
    """Signals one process, given by pid, that belongs to this run."""
    if pid not in proc.descendants(os.getpid()):
        raise ProcessLookupError(f"pid {pid} is not a process of this run")
    os.kill(pid, number)


def stop_at_work(pid, parent, path):
    """Stops a loader, a child of `parent`, when it has the file `path` and an image to write; lets
    it go on in small steps until then. False if it ends before, or is another file's."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        for _ in range(100_000):
            if (proc.stat_fields(pid) or "XX")[1] != parent:
                return False
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            wait_for(lambda: (proc.stat_fields(pid) or "X")[0] in "TZX", f"pid {pid} to stop")
            links = list(proc.descriptors(pid).values()) if proc.alive(pid) else []
            if path in links and any(link.startswith("/memfd:") for link in links):
                return True
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            time.sleep(0.0005)
    except (FileNotFoundError, ProcessLookupError):
        pass
    finally:
        os.close(handle)
    return False


def let_go(pid):
    """Lets a process that was stopped go on."""
    kill(pid, signal.SIGCONT)


def slow_table(directory, name, text="", lines=500_000):
    """A texthash table with `text` in it that takes a while to load. Returns its name."""
    Workspace.write(directory, name + ".new", text + entries(lines, prefix="filler"))
    os.rename(os.path.join(directory, name + ".new"), os.path.join(directory, name))
    return f"texthash:{os.path.join(directory, name)}"


def postmap(kind, path, text=None, *options, tool="postmap"):
    """Builds kind:path (path without suffix) with the system's postmap; `text` becomes its source
    file."""
    if text is not None:
        Workspace.write(os.path.dirname(path), os.path.basename(path), text)
    code, _, errors = run(
        [f"/usr/sbin/{tool}", "-c", workspace().map_config, *options, f"{kind}:{path}"]
    )
    if code != 0:
        raise AssertionError(f"{tool} {kind}:{path}: {errors}")


def entries(count, prefix="key", value="value"):
    return "".join(f"{prefix}{number} {value}{number}\n" for number in range(count))


def config_text(
    runtime,
    *,
    tables=(),
    allow=None,
    listen=None,
    user=JAIL_USER,
    libexec=None,
    limited=False,
):
    """The text of a jailmapd.conf.

    tables: names, or (name, {option: value}) pairs. allow: {who: [names]}, or {who: {option:
    value}}, default root everything. listen: {path: {option: value}}. A value that is a list is
    one in the file. limited: what a file without limit sections has holds.
    """

    def option(name, value):
        if isinstance(value, list):
            value = f"{{{', '.join(quote(item) for item in value)}}}"
        elif not isinstance(value, int):
            value = quote(value)
        return f"    {name} = {value}\n"

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
        if name.startswith("unix:"):  # most tests look at one agent
            options = {"processes": 1, **options}
        text += (
            f"table {quote(name)} {{\n" + "".join(option(*item) for item in options.items()) + "}\n"
        )
    for who, options in ({"root": ["*"]} if allow is None else allow).items():
        options = options if isinstance(options, dict) else {"tables": options}
        text += (
            f"allow {quote(who)} {{ "
            + " ".join(option(*item).strip() for item in options.items())
            + " }\n"
        )
    # What tests do to a daemon would be news to an administrator; test_enumeration.py looks at it.
    return text if limited else text + 'limit "*" { }\n'


class Jailmapd:
    """One jailmapd in the foreground with its own directory: configuration, run directory, socket,
    captured log."""

    ROLES = {
        "jailmap-worker": "worker",
        "jailmap-loader": "loader",
        "jailmap-scribe": "scribe",
        "jailmap-census": "census",
        "jailmap-launcher": "launcher",
        "jailmap-agent-nss": "agent",
        "jailmap-agent-pattern": "pattern",
        "jailmap-agent-sqlite": "sqlite",
        "jailmap-agent-net": "net",
        "jailmap-agent-mysql": "mysql",
        "jailmap-agent-pgsql": "pgsql",
        "jailmap-dialer": "dialer",
    }

    def __init__(
        self,
        name="jailmapd",
        *,
        tables=(),
        allow=None,
        listen=None,
        socket_options=None,
        libexec=None,
        text=None,
        limited=False,
    ):
        self.directory = workspace().directory(name)
        self.runtime = os.path.join(self.directory, "run")
        self.socket = os.path.join(self.directory, "socket")
        if listen is None:
            listen = {self.socket: {"mode": "0666", **(socket_options or {})}}
        else:
            self.socket = next(iter(listen))
        if text is None:
            text = config_text(
                self.runtime,
                tables=tables,
                allow=allow,
                listen=listen,
                libexec=libexec,
                limited=limited,
            )
        self.config = Workspace.write(self.directory, "jailmapd.conf", text)
        self.log_path = os.path.join(self.directory, "stderr")
        logs[self.log_path] = 0
        self.process = None
        workspace().at_end(self.stop)

    def start(self, wrap=(), env=None, ready=True, program=None, **options):
        """Starts `jailmapd -f` (inside `wrap`, or another `program`, if given; options are Popen's)
        and waits for its ready line."""
        mark = self.mark()
        with open(self.log_path, "ab") as log:
            self.process = start(
                [*wrap, program or workspace().jailmapd, "-f", "-c", self.config],
                stdout=log,
                stderr=log,
                env={"PATH": PATH, **(env or {})},
                **options,
            )
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
        below = proc.snapshot(process.pid)
        if process.poll() is None:
            process.terminate()
        try:
            code = wait_exit(process, "jailmapd to stop after SIGTERM")
        except Hung:
            process.kill()
            wait_exit(process, "jailmapd to end after SIGKILL")
            raise
        wait_ended(below, "the children of a stopped jailmapd to end")
        return code

    def mark(self):
        """The present end of the log; give it to log() and wait_log() to look only at what comes
        after."""
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
        """Waits until the log has a line that contains `pattern` (a regular expression); returns
        the match."""

        def look():
            if self.process is not None and self.process.poll() is not None:
                match = re.search(pattern, self.log(since))
                if not match:
                    raise AssertionError(
                        f"jailmapd ended with {self.process.returncode} before it logged"
                        f" /{pattern}/:\n{self.log(since)}"
                    )
                return match
            return re.search(pattern, self.log(since), re.M)

        return wait_for(look, lambda: f"log line /{pattern}/ in:\n{self.log(since)[-4000:]}")

    def roles(self):
        """role -> pids of the monitor's children, by the program that each runs."""
        found = {role: [] for role in self.ROLES.values()}
        for pid in proc.children(self.pid):
            role = self.ROLES.get(proc.program(pid))
            if role:
                found[role].append(pid)
        return found

    def launchers(self):
        """"jail" and "agents" -> pid. A helper that has just been cloned looks like its launcher
        until it executes its program; the launcher is the older one."""

        def both():
            found = {}
            for pid in self.roles()["launcher"]:
                fields, titles = proc.stat_fields(pid), proc.arguments(pid)
                if fields and titles:
                    place = titles[0].partition(": ")[2]
                    found[place] = min(found.get(place, (fields[2], pid)), (fields[2], pid))
            return {place: pid for place, (_, pid) in found.items()} if len(found) == 2 else None

        return wait_for(both, "both launchers")

    def wait_roles(self, role, count=1):
        """Pids of `count` or more running children in a role, as soon as there are that many."""
        return wait_for(
            lambda: (lambda pids: pids if len(pids) >= count else None)(self.roles()[role]),
            f"{count} {role} process(es) of jailmapd",
        )

    def catch_loader(self, table, again=True, file=None):
        """Touches the source of a table (see slow_table) and stops its loader in the middle of its
        work; returns the pid, to be let_go() or killed. When a loader was done before it could be
        stopped, it is tried again, or None is returned. file: the source, if the name is not."""
        path = file or table.partition(":")[2]
        ended = re.compile(rf'table "{re.escape(table)}" (not )?(loaded|reloaded|recovered|failed)')
        os.utime(path)
        mark, since = self.mark(), time.monotonic()

        def caught():
            nonlocal mark, since
            for pid in proc.some_children(self.pid):
                if proc.program(pid) == "jailmap-loader" and stop_at_work(pid, self.pid, path):
                    return [pid]
            # A failure is logged once, however often it is seen: then time tells.
            if ended.search(self.log(mark)) or time.monotonic() - since > 5:
                if not again:
                    return [None]
                mark, since = self.mark(), time.monotonic()
                os.utime(path)
            return None

        return wait_for(caught, f"a loader of {table} at work")[0]

    def client(self, **options):
        return protocol.Client(self.socket, **options)

    def status(self, *options):
        """Runs `jailmap status` for this daemon; returns (exit status, stdout, stderr)."""
        return run([workspace().jailmap, "status", "-d", self.runtime, *options])

    def facts(self):
        """What `jailmap status --json` says, of a daemon that answers."""
        code, out, errors = self.status("--json")
        if code not in (0, 1):
            raise AssertionError(f"jailmap status ended with {code}: {errors}")
        return json.loads(out)

    def table_facts(self, table):
        """The same of one table, by its name as it is in the configuration."""
        return next(facts for facts in self.facts()["tables"] if facts["name"] == table)

    def query(self, *arguments, stdin=b""):
        """Runs `jailmap query -s SOCKET ...`; returns (exit status, stdout, stderr)."""
        return run([workspace().jailmap, "query", "-s", self.socket, *arguments], stdin=stdin)

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        self.stop()


class Case(unittest.TestCase):
    """A test with a directory for tables, and with jailmapds and clients that end with it."""

    def setUp(self):
        self.directory = workspace().directory("tables")

    def path(self, name):
        return os.path.join(self.directory, name)

    def table(self, name, text=None, kind="hash", *options):
        """A table in this test's directory; with text, its database is made."""
        if text is not None:
            postmap(kind, self.path(name), text, *options)
        return f"{kind}:{self.path(name)}"

    def jailmapd(self, tables=(), start=True, **options):
        daemon = Jailmapd("faults", tables=tables, **options)
        self.addCleanup(daemon.stop)
        return daemon.start() if start else daemon

    def client(self, daemon, **options):
        client = daemon.client(**options)
        self.addCleanup(client.close)
        return client

    def eventually(self, client, table, key, answer, before=(RETRY, b"")):
        """Waits for the right answer of a lookup. Until workers have what the log told of, it may
        be `before`, and nothing else."""

        def right():
            found = client.lookup(table, key)
            self.assertIn(found, (answer, before))
            return found == answer

        wait_for(right, f"{key} in {table} to be {answer[1][:40]!r}")

    def slow_table(self, name, text="", lines=500_000):
        """A table in this test's directory that takes a while to load."""
        return slow_table(self.directory, name, text, lines)

    def lock(self, path):
        """Holds the lock that postmap holds while it writes; closed by the test, or at its end."""
        file = open(path, "r+b")
        self.addCleanup(file.close)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file
