"""What all parts of the bench stand on: processes, the private directory, runs of load, findings.

Runs as root inside tests/bench/run. It may write below one directory that it makes in /var/lib and
below build/bench, and ends only processes that it started, by pid.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "build", "bench")
LOAD = os.path.join(OUT, "load")
FLOOR = os.path.join(OUT, "floor")

KEY = "user%05d@example.com"
VALUE = "dest%05d@mail.example.org"
SERVERS = ("floor", "jailmapd", "proxymap")


class BenchError(Exception):
    """Something did not run; the text says what, for whoever reads the terminal."""


@dataclass
class Findings:
    """What a part hands back: text for people, rows for the CSV, all runs for the JSON, faults."""

    lines: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    runs: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    about: dict = field(default_factory=dict)
    workloads: list = field(default_factory=list)


@dataclass
class Plan:
    """How much is measured: the same for all parts, and the same numbers with each server."""

    quick: bool
    servers: list
    repetitions: int
    seconds: float
    warm_up: float
    rebuilds: int
    everywhere: set


# ---- processes -----------------------------------------------------------------------------------


def stat_fields(pid):
    """The fields of /proc/PID/stat after the command name (which may hold spaces), or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_tree(pid):
    """The pid and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    tree = []
    todo = [pid]
    while todo:
        tree.append(todo.pop())
        todo.extend(children.get(tree[-1], []))
    return tree


def threads_of(pid):
    """The threads of a process and of all its descendants."""
    threads = []
    for one in process_tree(pid):
        try:
            threads += [int(name) for name in os.listdir(f"/proc/{one}/task")]
        except FileNotFoundError:
            pass
    return threads


def cpu_seconds(pid):
    """CPU that a thread, or a single-threaded process, has used; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        fields = stat_fields(pid)
        ticks = int(fields[11]) + int(fields[12]) if fields else 0
        return ticks / os.sysconf("SC_CLK_TCK")


def reaped_cpu_seconds(pid):
    """CPU of the children of `pid` that have ended and been waited for."""
    fields = stat_fields(pid)
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


@dataclass
class Server:
    """A server under test: its main process, and the socket for what it is asked, "" for all."""

    name: str
    process: subprocess.Popen
    logs: list
    sockets: dict
    directory: str = ""

    def socket(self, source=""):
        return self.sockets.get(source) or self.sockets.get("")

    def log_text(self):
        text = ""
        for path in self.logs:
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text += file.read()
        return text.rstrip()

    def cpu_snapshot(self):
        pid = self.process.pid
        usage = {one: cpu_seconds(one) for one in process_tree(pid)}
        usage["reaped"] = reaped_cpu_seconds(pid)
        return usage

    def place(self, cpus):
        """Puts the server on these CPUs; what it starts later inherits them."""
        for thread in threads_of(self.process.pid):
            try:
                os.sched_setaffinity(thread, cpus)
            except ProcessLookupError:
                pass


class Bench:
    """Owns the directory and the processes, and removes both whatever happens."""

    def __init__(self):
        self.directory = None
        self.started = []

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="jailmap-bench.", dir="/var/lib")
        os.chmod(self.directory, 0o755)
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.stop_all()
        shutil.rmtree(self.directory, ignore_errors=True)

    def stop_all(self):
        """Ends what one part of the bench started, before the next."""
        for process in reversed(self.started):
            stop(process)
        self.started.clear()
        end_orphans()

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def start(self, name, argv):
        """Starts a server in a session of its own, so that Ctrl-C reaches only this program."""
        log = self.path(f"{name}.log")
        with open(log, "ab") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self.started.append(process)
        return process, log

    def start_quiet(self, argv, **options):
        """Starts a program that ends with this one; what it prints is for communicate()."""
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def run(self, argv, **options):
        """Runs a program to its end. Returns (status, output)."""
        process = self.start_quiet(argv, **options)
        output = process.communicate()[0]
        self.started.remove(process)
        return process.returncode, output

    def must_run(self, argv, **options):
        status, output = self.run(argv, **options)
        if status != 0:
            raise BenchError(f"{' '.join(argv)}: exit status {status}\n{output.rstrip()}")
        return output


def stop(process):
    """Ends a process that we started, by pid. A server ends its own children when it ends."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def adopt_orphans():
    """Makes what a dead server leaves behind a child of ours, so that end_orphans() finds it."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def end_orphans():
    """Waits for all that is left of our children's children, and ends what does not end itself."""
    deadline = time.monotonic() + 2
    while True:
        orphans = [pid for pid in process_tree(os.getpid()) if pid != os.getpid()]
        for pid in orphans:
            try:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ChildProcessError, ProcessLookupError):
                pass
        if not orphans:
            return
        time.sleep(0.02)


def write_file(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


# ---- load ----------------------------------------------------------------------------------------


def place_load(cpus):
    """Runs in the child before load does."""
    return lambda: os.sched_setaffinity(0, cpus)


def load_report(argv, status, output):
    """What load printed; raises BenchError if it could not measure."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if status not in (0, 1) or len(lines) != 1:
        raise BenchError(f"{' '.join(argv)}: exit status {status}\n{output.rstrip()}")
    return json.loads(lines[0])


def describe_errors(server, title, result):
    return f"{server.name}, {title}: {result['errors']} errors; first: {result['first_error']}"


class Background:
    """load while something else is done; finish() ends its measurement and returns its report."""

    def __init__(self, bench, *options):
        self.argv = [LOAD, "-o", "json", *options]
        self.process = bench.start_quiet(self.argv)
        self.bench = bench

    def finish(self):
        self.process.terminate()
        return self.wait()

    def wait(self):
        output = self.process.communicate()[0]
        self.bench.started.remove(self.process)
        return load_report(self.argv, self.process.returncode, output)


# ---- the machine ---------------------------------------------------------------------------------


class Bystanders:
    """How much of the machine others used meanwhile: what they take, the numbers above lack."""

    def __init__(self, servers):
        self.servers = servers
        self.began = time.monotonic()
        self.busy = self.machine_busy()
        self.own = self.own_cpu()

    @staticmethod
    def machine_busy():
        """CPU seconds of user, nice, system, interrupt and stolen time, all CPUs together."""
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(part) for part in file.readline().split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

    def own_cpu(self):
        spent = sum(sum(server.cpu_snapshot().values()) for server in self.servers)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            spent += usage.ru_utime + usage.ru_stime
        return spent

    def share(self, more=0.0):
        """Of all CPU time since the beginning, 0 to 1. `more`: CPU seconds that are ours, too."""
        others = self.machine_busy() - self.busy - (self.own_cpu() - self.own) - more
        return max(0.0, others / (time.monotonic() - self.began) / os.cpu_count())


# ---- progress ------------------------------------------------------------------------------------


class Progress:
    """One line that says what runs and how long is left; on a terminal it is rewritten in place."""

    def __init__(self, total, estimate):
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self.estimate = estimate
        self.printed = 0.0
        self.terminal = sys.stderr.isatty()

    def step(self, text):
        now = time.monotonic()
        each = (now - self.began) / self.done if self.done > 3 else self.estimate
        left = round(each * (self.total - self.done))
        line = f"[{self.done + 1:3}/{self.total}] {left // 60}:{left % 60:02} left: {text}"
        self.done += 1
        if self.terminal:
            sys.stderr.write(f"\r\033[K{line[:118]}")
            sys.stderr.flush()
        elif now - self.printed > 10:
            print(line, file=sys.stderr, flush=True)
            self.printed = now

    def end(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")


def median_of(results, name):
    return statistics.median(result[name] for result in results)


def number_or_dash(value, form):
    return "-" if value is None else format(value, form)
