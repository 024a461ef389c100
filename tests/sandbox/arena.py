"""Where an attacker meets the daemon: a jailmapd with one of its programs replaced by an attacker
build, a bystander who is served all the time, and the monitor's vital signs.

Runs as root inside tests/sandbox/run. It starts daemons through the harness of the system tests, and
processes of its own that an attacker would like to reach; everything ends with the run. It must never
judge an attempt by how long something takes.
"""

import mmap
import os
import re
import shutil
import socket
import subprocess
import sys
import threading

import harness
import proc
import protocol
from harness import REPOSITORY, workspace
from protocol import NOKEY, OK, Closed
from waiting import LIMIT, wait_for

BYSTANDER, VICTIM, FIRST = 1, 2, 20_000  # uids; from FIRST on every attempt has one of its own
UIDS = 500
FILTER = "killed by its sandbox: forbidden system call"
PLAIN = 524352
# What the monitor may hold more than before an attempt, besides a descriptor for each child.
SPARE_DESCRIPTORS, SPARE_MEMORY = 24, 8 << 20
LINKS = 200  # of many tables to many workers
_built = False


def build():
    """Builds the attacker programs; once for each run."""
    global _built
    if not _built:
        command = ["make", "-s", "-C", REPOSITORY, "--no-print-directory", "attackers"]
        with harness.building():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"tests/sandbox/run: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        _built = True


def libexec(program, bare=False, also=()):
    """A libexec-dir with the real programs, but for one; in `bare`, that does without its filter.
    also: others that are attackers, too, with their filters."""
    build()
    place = workspace().directory("libexec")
    for name in os.listdir(workspace().libexec):
        shutil.copy(os.path.join(workspace().libexec, name), os.path.join(place, name))
    for name, without in ((program, bare), *((other, False) for other in also)):
        attacker = os.path.join(REPOSITORY, "build/attack", "bare" if without else "", name)
        shutil.copy(attacker, os.path.join(place, name))
    return place


def below(pid):
    """Everything below a process: pid -> parent. One look at /proc, however many there are."""
    parents = {}
    for name in os.listdir("/proc"):
        fields = proc.stat_fields(name) if name.isdigit() else None
        if fields and fields[0] not in "ZX":
            parents[int(name)] = fields[1]
    found, todo = {}, [pid]
    while todo:
        parent = todo.pop()
        children = [child for child, its in parents.items() if its == parent]
        found.update(dict.fromkeys(children, parent))
        todo += children
    return found


class Bystander(threading.Thread):
    """A client of another uid, who asks all the time and must get right answers, all of them."""

    def __init__(self, daemon, table):
        super().__init__(daemon=True)
        self.daemon_socket, self.table = daemon.socket, table
        self.client = daemon.client(uid=BYSTANDER)
        self.count, self.failure = 0, None
        self.ended, self.hurry = threading.Event(), threading.Event()

    def run(self):
        try:
            while not self.ended.is_set():
                self.hurry.wait(0.02)
                self.hurry.clear()
                for key, right in (("key", (OK, b"right")), ("absent", (NOKEY, b""))):
                    found = self.client.lookup(self.table, key)
                    if found != right:
                        raise AssertionError(f"the bystander got {found} for {key}, not {right}")
                self.count += 1
        except (AssertionError, Closed, OSError) as error:
            if not self.ended.is_set():
                self.failure = f"the bystander was hurt: {type(error).__name__}: {error}"

    def served(self):
        """Returns when it has been served, from the beginning of a request, once more; raises if it
        was ever not."""
        goal = self.count + 2

        def enough():
            self.hurry.set()
            return self.failure or self.count >= goal

        wait_for(enough, "the bystander to be served")
        if self.failure:
            raise AssertionError(self.failure)

    def stop(self):
        self.ended.set()
        self.join(LIMIT)
        self.client.close()


class Arena:
    """One daemon with an attacker in it."""

    def __init__(
        self, program=None, *, bare=False, also=(), tables=(), wrap=(), options=None, uids=UIDS
    ):
        """tables: names, or (name, options), or a function of the arena's directory that gives them.
        uids: how many attackers there can be."""
        place = workspace().directory("arena")
        self.directory = place
        if callable(tables):
            tables = tables(place)
        self.libexec = libexec(program, bare, also) if program else None
        self.mailbox = Mailbox(self.libexec) if program == "jailmap-launcher" else None
        self.tables = {}
        for name, text in {
            "bystander": "key right\n",
            "victim": "key secret-of-the-victim\n",
            "attacker": "key own\n",
        }.items():
            harness.postmap("hash", os.path.join(place, name), text)
            self.tables[name] = f"hash:{os.path.join(place, name)}"
        self.table = self.tables["attacker"]
        names = [table[0] if isinstance(table, tuple) else table for table in tables]
        self.names = names
        self.spare = SPARE_DESCRIPTORS + (LINKS if len(names) > 2 else 0)
        allow = {str(FIRST + number): [self.table, *names] for number in range(uids)}
        allow[str(BYSTANDER)] = [self.tables["bystander"]]
        allow[str(VICTIM)] = [self.tables["victim"]]
        self.daemon = harness.Jailmapd(
            "sandbox",
            tables=[*self.tables.values(), *tables],
            allow=allow,
            libexec=self.libexec,
            socket_options=options,
            limited=True,
        )
        self.daemon.start(wrap=wrap)
        self.next_uid, self.guest, self.uses = FIRST, None, 0
        self.bystander = Bystander(self.daemon, self.tables["bystander"])
        self.bystander.start()
        self.bystander.served()
        self.pid = self.daemon.pid
        self.before = self.signs()

    def signs(self):
        """(bytes, descriptors without one for each child) of the monitor."""
        children = len(proc.read(f"/proc/{self.pid}/task/{self.pid}/children").split())
        memory = int(proc.status(self.pid)["VmRSS"].split()[0]) << 10
        return memory, len(os.listdir(f"/proc/{self.pid}/fd")) - children

    def vital(self):
        """Raises unless the monitor is the one it was, has not grown, and serves the bystander."""
        self.bystander.served()
        if self.daemon.process.poll() is not None:
            raise AssertionError(f"the monitor ended with {self.daemon.process.returncode}")

        def settled():
            memory, descriptors = self.signs()
            return (
                memory <= self.before[0] + SPARE_MEMORY
                and descriptors <= self.before[1] + self.spare
            )

        wait_for(settled, lambda: f"the monitor to hold no more than {self.before}: {self.signs()}")
        self.no_strangers()

    def no_strangers(self):
        """Waits until everything below the monitor is one of its helpers, and its own child."""

        def strangers():
            found = []
            for pid, parent in below(self.pid).items():
                title = (proc.arguments(pid) or [""])[0]
                ours = parent == self.pid or "launcher" in title
                if proc.alive(pid) and not (title.startswith("jailmap-") and ours):
                    found.append((pid, title))
            return found

        wait_for(lambda: not strangers(), lambda: f"these to end: {strangers()}")

    def uid(self):
        """One that has not been used yet: nobody has to wait for the end of its back-off."""
        self.next_uid += 1
        return self.next_uid - 1

    def regular(self):
        """An attacker who comes again, for orders that do not end its worker; after a while, before
        the log leaves out what it is denied, it is another."""
        if self.uses % 12 == 0:
            if self.guest:
                self.guest.close()
            self.guest, _ = self.attacker()
        self.uses += 1
        return self.guest

    def attacker(self, uid=None):
        """(client, uid) of a new one, that has the table."""
        uid = uid or self.uid()
        client = self.daemon.client(uid=uid)
        found = client.lookup(self.table, "key")
        if found != (OK, b"own"):
            raise AssertionError(f"the attacker cannot look up its own: {found}")
        return client, uid

    def worker_of(self, uid):
        """Pid of the worker of a uid; None if there is none."""
        return self.titled(f"jailmap-worker: uid {uid} on ")

    def titled(self, start):
        """Pid of a child of the monitor whose title begins so; None if there is none."""
        for pid in proc.some_children(self.pid):
            if (proc.arguments(pid) or [""])[0].startswith(start):
                return pid
        return None

    def stop(self):
        """Ends the daemon; the harness checks that no helper outlives it."""
        self.bystander.stop()
        return self.daemon.stop()


class Mailbox:
    """Orders to a program that can open nothing, and its reports, in memory that it shares."""

    def __init__(self, directory):
        path = workspace().write(directory, "mailbox", bytes(4096), 0o600)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)

    def post(self, to, order):
        """Leaves an order; it is carried out when the program looks."""
        self.put(f"{to} attack:{order}")

    def put(self, text):
        """Leaves any text; its first byte comes last, so that nobody reads half of it."""
        text = text.encode()
        self.page[2048:] = bytes(2048)
        self.page[1:2048] = text[1:].ljust(2047, b"\0")
        self.page[0:1] = text[:1]

    def report(self):
        """What came of it; empty until then."""
        return self.page[2048:].partition(b"\0")[0].decode()


def attack_monitor(bare=False):
    """(path, mailbox) of an attacker build of jailmapd, in a directory of its own."""
    build()
    place = workspace().directory("monitor")
    path = os.path.join(place, "jailmapd")
    shutil.copy(os.path.join(REPOSITORY, "build/attack", "bare" if bare else "", "jailmapd"), path)
    return path, Mailbox(place)


class Targets:
    """What an attacker would like to reach: a process, a socket on the network, a local one."""

    def __init__(self):
        self.process = harness.start(["sleep", "3600"])
        self.inet = socket.create_server(("127.0.0.1", 0))
        self.name = f"@jailmap-red-{os.getpid()}"
        self.local = socket.socket(socket.AF_UNIX)
        self.local.bind("\0" + self.name[1:])
        self.local.listen()

    def words(self):
        return {
            "process": self.process.pid,
            "port": self.inet.getsockname()[1],
            "abstract": self.name,
        }

    def close(self):
        for part in (self.inet, self.local):
            part.close()
        self.process.kill()
        harness.wait_exit(self.process, "sleep to end")


def outcome_of(text):
    """One word for how it was stopped, of a report or of how a process died."""
    if FILTER in text:
        return "SIGSYS"
    match = re.search(r"signal (\d+)", text)
    if match:
        return f"signal {match.group(1)}"
    return text.split()[0].rstrip(":,") if text else "nothing"
