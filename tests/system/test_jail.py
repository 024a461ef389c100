"""The walls as the kernel sees them: /proc of every process of a jailmapd that is at work.

The test looks from outside, as root. It holds clients of two users open, stops a loader in the
middle of its work, and reads the processes' roots, identities, capability
sets, filters, descriptors and memory.
"""

import collections
import fcntl
import os
import secrets
import unittest

import harness
import nameservice
import proc
import protocol
from harness import JAIL, postmap, workspace
from protocol import OK, DENY, attributes, o_sequence, n_lookup

# Users that every system has, other than the one that the helpers run as.
ALICE, BOB = 1, 2
SEALS = 15  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
F_SEAL_WRITE, F_GET_SEALS = 8, 1034
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# The monitor's capabilities, and what it needs each for.
MONITOR_MAY = {
    2: "DAC_READ_SEARCH: opens approved sources that only their owner can read",
    5: "KILL: ends a child, which is another user's process",
    6: "SETGID: acts on files as their owner",
    7: "SETUID: acts on files as their owner",
}


def isolated():
    """Does this system let root make the namespaces?"""
    return harness.run(["unshare", "-n", "-i", "-u", "-m", "-p", "-f", "true"])[0] == 0


ISOLATED = isolated()


def kinds(pid):
    """How many descriptors of each kind a process has: {"seqpacket": 1, ...}."""
    return dict(collections.Counter(kind.partition(":")[0] for kind in proc.classify(pid).values()))


def mappings(pid):
    """(rights, path) of every mapping."""
    lines = proc.read(f"/proc/{pid}/maps").splitlines()
    return [
        (fields[1], fields[5] if len(fields) > 5 else "")
        for fields in (line.split(None, 5) for line in lines)
    ]


class JailTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(lambda: [part.close() for part in cls.open] and None)
        cls.open = []
        cls.directory = directory = workspace().directory("jail-tables")
        cls.words = {}
        for name in ("shared", "alice", "bob", "hidden"):
            cls.words[name] = f"{name}-secret-{secrets.token_hex(12)}"
            postmap("hash", os.path.join(directory, name), f"key {cls.words[name]}\n")
        cls.tables = {name: f"hash:{os.path.join(directory, name)}" for name in cls.words}
        cls.users = "unix:passwd.byname"
        cls.slow = harness.slow_table(directory, "slow")
        cls.source = cls.slow.partition(":")[2]
        cls.jailmapd = harness.Jailmapd(
            "jail",
            tables=[
                *[cls.tables[name] for name in ("shared", "alice", "bob")],
                (cls.tables["hidden"], {"reveal": "existence"}),
                (cls.users, {"reveal": "existence"}),
                (cls.slow, {"load-time": 3600}),
            ],
            allow={
                str(ALICE): [
                    cls.tables["shared"],
                    cls.tables["alice"],
                    cls.tables["hidden"],
                    cls.users,
                ],
                str(BOB): [cls.tables["shared"], cls.tables["bob"]],
            },
        )
        cls.addClassCleanup(cls.jailmapd.stop)
        # What a careless parent may leave: groups, variables, no umask, and a way out of a jail.
        outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            cls.jailmapd.start(
                wrap=nameservice.switched(),
                env={"LD_PRELOAD": "", "SECRET": "of-the-parent"},
                extra_groups=[3, 4, 42],
                pass_fds=[outside],
                umask=0,
            )
        finally:
            os.close(outside)
        cls.runtime_jail = os.path.join(cls.jailmapd.runtime, "empty")
        cls.alice = cls.jailmapd.client(uid=ALICE)
        cls.open.append(cls.alice)
        cls.found = [
            cls.alice.lookup(cls.tables[name], "key") for name in ("shared", "alice", "hidden")
        ]
        cls.found.append(cls.alice.lookup(cls.users, "root"))
        (cls.alice_worker,) = cls.jailmapd.wait_roles("worker")
        cls.bob = cls.jailmapd.client(uid=BOB)
        cls.open.append(cls.bob)
        cls.found += [cls.bob.lookup(cls.tables[name], "key") for name in ("shared", "bob")]
        workers = cls.jailmapd.wait_roles("worker", 2)
        (cls.bob_worker,) = set(workers) - {cls.alice_worker}
        # A loader is stopped at work, so that it can be looked at.
        cls.loader = cls.jailmapd.catch_loader(cls.slow)
        (cls.scribe,) = cls.jailmapd.wait_roles("scribe")
        (cls.census,) = cls.jailmapd.wait_roles("census")
        (cls.agent,) = cls.jailmapd.wait_roles("agent")
        places = cls.jailmapd.launchers()
        cls.launchers = {
            "launcher of the jail": places["jail"],
            "launcher of agents": places["agents"],
        }

    def helpers(self, look):
        """role -> look(pid) for one process of each role, two workers."""
        return {
            "worker for alice": look(self.alice_worker),
            "worker for bob": look(self.bob_worker),
            "scribe": look(self.scribe),
            "census": look(self.census),
            "agent": look(self.agent),
            "loader": look(self.loader),
            **{name: look(pid) for name, pid in self.launchers.items()},
        }

    def test_at_work(self):
        """The processes looked at are at work: each client got its answers."""
        words = [self.words[name].encode() for name in ("shared", "alice")]
        self.assertEqual(
            self.found,
            [
                (OK, words[0]),
                (OK, words[1]),
                (OK, b"key"),
                (OK, b"root"),
                (OK, words[0]),
                (OK, self.words["bob"].encode()),
            ],
        )
        self.assertEqual(self.alice.lookup(self.tables["shared"], "key"), (OK, words[0]))

    @harness.not_sanitized("helpers load libraries there")
    def test_programs(self):
        """Each process runs its own program from libexec-dir, and the worker and the loader load no
        library."""

        def look(pid):
            files = {
                path
                for _, path in mappings(pid)
                if path.startswith("/") and not path.startswith("/memfd:")
            }
            return proc.exe(pid), files

        for role, (path, files) in self.helpers(look).items():
            name = {"agent": "jailmap-agent-nss"}.get(role, "jailmap-" + role.split()[0])
            self.assertEqual(path, os.path.join(workspace().libexec, name))
            if role.startswith(("worker", "loader", "scribe", "census")):
                self.assertEqual(files, {path}, role)

    @harness.not_sanitized("the jail is furnished with libraries there")
    def test_root_directory(self):
        """Workers, loader, scribe and their launcher have the empty jail as root and working
        directory, and no other mount; agents and theirs alone have not."""

        def look(pid):
            found = os.stat(f"/proc/{pid}/root/"), os.stat(f"/proc/{pid}/cwd/")
            return [(info.st_dev, info.st_ino) for info in found], len(
                proc.read(f"/proc/{pid}/mountinfo").splitlines()
            )

        jail, host = (
            (info.st_dev, info.st_ino) for info in (os.stat(self.runtime_jail), os.stat("/"))
        )
        for role, (places, mounts) in self.helpers(look).items():
            outside = role in ("agent", "launcher of agents")
            self.assertEqual(places, [host if outside else jail] * 2, role)
            if not outside and ISOLATED:
                self.assertEqual(mounts, 1, role)

    def test_namespaces(self):
        """Workers, loader, scribe and their launcher have namespaces of their own for network, IPC,
        host name, mounts and, but for the launcher, processes; agents for processes alone."""

        def look(pid):
            return {
                kind: os.readlink(f"/proc/{pid}/ns/{kind}")
                for kind in ("net", "ipc", "uts", "mnt", "pid", "user")
            }

        if not ISOLATED:
            self.skipTest("this system does not let root make namespaces")
        host = look(self.jailmapd.pid)
        for role, found in self.helpers(look).items():
            own = {kind for kind in found if found[kind] != host[kind]}
            expected = {"pid"} if role == "agent" else {"net", "ipc", "uts", "mnt", "pid"}
            if role.startswith("launcher"):
                expected -= {"pid"}
            if role == "launcher of agents":
                expected = set()
            self.assertEqual(own, expected, role)
        namespaces = {look(pid)["net"] for pid in (self.alice_worker, self.bob_worker)}
        self.assertEqual(namespaces, {look(self.scribe)["net"]})
        devices = proc.read(f"/proc/{self.alice_worker}/net/dev").splitlines()[2:]
        self.assertEqual([line.split(":")[0].strip() for line in devices], ["lo"])

    def test_jail_is_empty(self):
        """The jail is an empty directory of root in which the helpers' user can make nothing."""
        self.assertEqual(os.listdir(self.runtime_jail), [])
        for path in (self.runtime_jail, self.jailmapd.runtime):
            info = os.stat(path)
            self.assertEqual((info.st_uid, info.st_gid), (0, 0))
            self.assertEqual(info.st_mode & 0o022, 0, oct(info.st_mode))

    def test_identity(self):
        """All four uids and gids are the unprivileged user's, and there are no supplementary
        groups."""
        for role, status in self.helpers(proc.status).items():
            self.assertEqual(status["Uid"].split(), [str(JAIL.pw_uid)] * 4, role)
            self.assertEqual(status["Gid"].split(), [str(JAIL.pw_gid)] * 4, role)
            self.assertEqual(status["Groups"], "", role)

    def test_capabilities(self):
        """No helper has a capability in any of the five sets, and none can gain one by executing a
        program."""
        for role, status in self.helpers(proc.status).items():
            self.assertEqual([int(status[name], 16) for name in SETS], [0] * 5, role)
            self.assertEqual(status["NoNewPrivs"], "1", role)

    def test_filters(self):
        """Every process runs behind a system call filter, and a helper behind its launcher's as
        well."""
        statuses = self.helpers(proc.status)
        statuses["monitor"] = proc.status(self.jailmapd.pid)
        for role, status in statuses.items():
            count = 1 if role.startswith(("monitor", "launcher")) else 2
            self.assertEqual((status["Seccomp"], status["Seccomp_filters"]), ("2", str(count)), role)

    def test_limits(self):
        """The kernel lets no helper fork, dump its memory, or (worker, agent) write a file."""

        def look(pid):
            lines = proc.read(f"/proc/{pid}/limits").splitlines()
            return {line[:26].strip(): line[26:].split()[:2] for line in lines[1:]}

        for role, limits in self.helpers(look).items():
            none = ["Max processes", "Max core file size"]
            # Where sanitizers report to a file, that has no limit.
            if role.startswith(("worker", "agent", "census")) and not harness.sanitized():
                none += ["Max file size"]
            if role.startswith("launcher"):
                continue  # it starts the others, who have a limit from birth
            for name in none:
                self.assertEqual(limits[name], ["0", "0"], f"{role}: {name}")

    @harness.not_sanitized("helpers keep standard error there, for reports")
    def test_descriptors(self):
        """Each process has exactly the descriptors that its work needs, and nothing it was not
        given."""
        expected = {
            # The bridge to the monitor; its clients; a link to the agent of each unix: table that
            # it may use.
            "worker for alice": {"/dev/null": 3, "seqpacket": 2, "eventpoll": 1, "stream": 1},
            "worker for bob": {"/dev/null": 3, "seqpacket": 1, "eventpoll": 1, "stream": 1},
            # The bridge; links to workers (here one).
            "agent": {"/dev/null": 3, "seqpacket": 2, "eventpoll": 1},
            # The bridge, its source, its image.
            "loader": {"/dev/null": 3, "seqpacket": 1, "memfd": 1, self.source: 1},
            # The bridge, the log that is standard error here, and syslog where there is one.
            "scribe": {"/dev/null": 3, "seqpacket": 1, self.jailmapd.log_path: 1},
            # The bridge alone: of a page of counters it keeps the mapping.
            "census": {"/dev/null": 3, "seqpacket": 1},
        }
        # The bridge, the programs that it may start, and what its namespace's first process watches.
        for name, programs in (
            (
                "the jail",
                ("worker", "loader", "scribe", "census", "agent-pattern", "agent-sqlite", "agent-net"),
            ),
            ("agents", ("agent-nss", "agent-mysql", "agent-pgsql", "dialer", "reader")),
        ):
            files = {os.path.join(workspace().libexec, "jailmap-" + end): 1 for end in programs}
            pipe = {"pipe": 1} if ISOLATED else {}
            expected["launcher of " + name] = {"/dev/null": 3, "seqpacket": 1, **pipe, **files}
        found = self.helpers(kinds)
        found["scribe"].pop("datagram", None)
        self.assertEqual(found, expected)

    def test_descriptor_rights(self):
        """A loader cannot write its source, the scribe can only append, and images are mapped
        read-only."""

        links = proc.descriptors(self.loader).items()
        fd = next(fd for fd, link in links if link == self.source)
        self.assertEqual(proc.descriptor_flags(self.loader, fd) & os.O_ACCMODE, os.O_RDONLY)
        fd = next(
            fd
            for fd, link in proc.descriptors(self.scribe).items()
            if link == self.jailmapd.log_path
        )
        self.assertTrue(proc.descriptor_flags(self.scribe, fd) & os.O_APPEND)
        for pid in (self.alice_worker, self.bob_worker):
            images = [
                rights for rights, path in mappings(pid) if path.startswith("/memfd:jailmap-image")
            ]
            self.assertTrue(images)
            self.assertFalse(
                [rights for rights in images if "w" in rights or "x" in rights], images
            )

    def test_no_writable_code(self):
        """No helper has memory that is both writable and executable, and only programs and the vdso
        are executable."""
        for role, maps in self.helpers(mappings).items():
            self.assertFalse(
                [path for rights, path in maps if "w" in rights and "x" in rights], role
            )
            self.assertFalse(
                [
                    path
                    for rights, path in maps
                    if "x" in rights and not path.startswith(("/", "[v"))
                ],
                role,
            )

    def test_environment(self):
        """No helper has an environment."""
        for role, text in self.helpers(lambda pid: proc.read(f"/proc/{pid}/environ")).items():
            self.assertEqual(text, "", role)

    def test_images_are_sealed(self):
        """Every image in service is sealed against writing, growing, shrinking and further
        seals."""
        images = [fd for fd, kind in proc.classify(self.jailmapd.pid).items() if kind == "memfd"]
        self.assertTrue(images)
        sealed = 0
        for fd in images:
            with open(f"/proc/{self.jailmapd.pid}/fd/{fd}", "rb") as image:
                sealed += fcntl.fcntl(image, F_GET_SEALS) & SEALS == SEALS
        # One image is being written by the loader; it is sealed when that has ended.
        self.assertEqual(sealed, len(images) - 1)
        self.assertGreaterEqual(sealed, 5)
        for pid in (self.alice_worker, self.bob_worker):
            folder = f"/proc/{pid}/map_files"
            for name in os.listdir(folder):
                if os.readlink(os.path.join(folder, name)).startswith("/memfd:jailmap-image"):
                    with open(os.path.join(folder, name), "rb") as image:
                        self.assertEqual(fcntl.fcntl(image, F_GET_SEALS) & SEALS, SEALS)

    @harness.not_sanitized("a sanitizer's memory is mapped otherwise")
    def test_counters(self):
        """A worker maps one page of counters, the only one of its shared mappings that it can
        write, and nobody can change the size of that; the census maps the same page, and cannot
        write it, nor can it any other."""
        pages = {}
        for pid in (self.alice_worker, self.bob_worker, self.census):
            folder = f"/proc/{pid}/map_files"
            shared = [entry for entry in mappings(pid) if entry[0].endswith("s")]
            pages[pid] = set()
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if os.readlink(path).startswith("/memfd:jailmap-counters"):
                    pages[pid].add(os.stat(path).st_ino)
                    with open(path, "rb") as page:
                        seals = fcntl.fcntl(page, F_GET_SEALS) & SEALS
                    self.assertEqual(seals, SEALS & ~F_SEAL_WRITE)
            writable = [path for rights, path in shared if "w" in rights]
            self.assertEqual(len(writable), 0 if pid == self.census else 1, shared)
        workers = pages[self.alice_worker], pages[self.bob_worker]
        self.assertEqual([len(found) for found in workers], [1, 1])
        self.assertFalse(workers[0] & workers[1])
        self.assertEqual(pages[self.census], workers[0] | workers[1])

    def test_compartments(self):
        """Clients of two users have different workers, and a worker's memory holds nothing that
        only the other may use."""
        self.assertEqual(len({self.alice_worker, self.bob_worker}), 2)
        for pid, own, other in (
            (self.alice_worker, "alice", "bob"),
            (self.bob_worker, "bob", "alice"),
        ):
            memory = proc.memory(pid)
            for name in ("shared", own):
                self.assertIn(self.words[name].encode(), memory)
            self.assertNotIn(self.words[other].encode(), memory)
            self.assertNotIn(self.words["hidden"].encode(), memory)

    def test_denied_table_stays_out(self):
        """Every kind of request for another user's table is denied in both dialects and brings
        nothing into the worker."""
        table = self.tables["bob"]
        requests = [
            protocol.o_open(table),
            protocol.o_lookup(table, "key", 524352),
            o_sequence(table, 0),
            n_lookup(table, "key", 0, 28),
            protocol.n_open(table),
            protocol.o_lookup("proxy:" + table, "key"),
            attributes(
                "request",
                "sequence",
                "table",
                table,
                "instance_flags",
                0,
                "flags",
                0,
                "function",
                0,
            ),
        ]
        for data in requests:
            self.assertEqual(self.alice.call(data)[0], DENY, data)
        self.assertNotIn(self.words["bob"].encode(), proc.memory(self.alice_worker))

    def test_existence(self):
        """With `reveal = existence` no value enters the jail: not that of a file, and not that of a
        user."""
        self.assertEqual(self.alice.lookup(self.tables["hidden"], "key"), (OK, b"key"))
        self.assertEqual(self.alice.lookup(self.users, "ROOT", 16384), (OK, b"root"))
        memory = proc.memory(self.alice_worker)
        self.assertNotIn(self.words["hidden"].encode(), memory)
        self.assertNotIn(b":/root:/bin/", memory)

    def test_monitor_capabilities(self):
        """The monitor keeps only the capabilities that it has a use for, passes none on, and can
        gain none."""
        pid = self.jailmapd.pid
        held = proc.capabilities(pid, "CapPrm")
        self.assertLessEqual(held, set(MONITOR_MAY))
        self.assertLessEqual(proc.capabilities(pid, "CapEff"), held)
        self.assertEqual(
            [proc.capabilities(pid, name) for name in ("CapInh", "CapBnd", "CapAmb")],
            [set()] * 3,
        )
        self.assertEqual(proc.status(pid)["NoNewPrivs"], "1")

    def test_monitor_holds_no_client(self):
        """The monitor keeps no client connection and no table file open, and maps no image."""
        found = proc.classify(self.jailmapd.pid)
        streams = [kind for kind in found.values() if kind.startswith("stream")]
        self.assertEqual(len(streams), 1, "the listening socket alone")
        # The source of the table that is being loaded is open until that ends, as its lock would
        # be; no other is.
        sources = [kind for kind in found.values() if kind.startswith(self.directory)]
        self.assertEqual(sources, [self.source])
        self.assertFalse(
            [path for _, path in mappings(self.jailmapd.pid) if path.startswith("/memfd:")]
        )

    def test_monitor_reads_no_data(self):
        """Nothing that a client sent and nothing that a table holds is in the monitor's memory."""
        key = "key-" + secrets.token_hex(12)
        self.alice.lookup(self.tables["alice"], key)
        self.assertIn(key.encode(), proc.memory(self.alice_worker), "the way of looking works")
        memory = proc.memory(self.jailmapd.pid, files=False)
        self.assertIn(self.tables["alice"].encode(), memory, "the way of looking works")
        for word in (key, *self.words.values()):
            self.assertNotIn(word.encode(), memory)
        for pid in (self.scribe, self.agent):
            for word in (key, *self.words.values()):
                self.assertNotIn(word.encode(), proc.memory(pid))

    def test_monitor_links_no_parser(self):
        """No library for tables, patterns or SQL is in the monitor's address space, and no name
        service module."""
        libraries = {
            os.path.basename(path) for _, path in mappings(self.jailmapd.pid) if ".so" in path
        }
        for library in libraries:
            self.assertNotRegex(
                library, r"^lib(db|lmdb|pcre|sqlite|pq|maria|mysql|ldap|jansson|cdb|sodium)"
            )
        self.assertTrue(libraries)
