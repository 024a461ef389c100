"""`jailmap sandbox`: the page says of every process what /proc says, and its exit status tells a
daemon that is as the design wants it from one that is not.

One daemon is at work as in test_jail.py: clients of two users, an agent, a loader that is stopped.
Others have a wall missing, or are stand-ins without any (unwalled.c).
"""

import contextlib
import os
import re
import shutil
import socket

import subprocess
import threading
import time
import unittest

import harness
import nameservice
import proc
from harness import JAIL, postmap, workspace
from protocol import OK
from waiting import wait_for

ALICE, BOB = 1, 2
SETS = {
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}
# The numbers of those that the report may name, as capabilities(7) has them.
CAPABILITIES = {"dac_read_search": 2, "kill": 5, "setgid": 6, "setuid": 7}
PROFILES = os.path.join(harness.REPOSITORY, "privsep")
# Why a test cannot be made in `make system-sanitized`.
WEAKER = "its helpers have a furnished jail, standard error and no limits, which is weaker"


def sandbox(runtime, *options, **popen):
    """(exit status, stdout, stderr) of `jailmap sandbox` on a runtime-dir."""
    return harness.run([workspace().jailmap, "sandbox", "-d", runtime, *options], **popen)


def blocks(page):
    """pid -> label -> text of the lines of each process; what is WEAKER under that label. A label
    goes on over the lines that have none."""
    found = {}
    for block in page.split("\n\n"):
        lines = block.splitlines()
        match = len(lines) > 1 and re.match(r"    process        (\d+), ", lines[1])
        if not match:
            continue
        pid, facts, label = int(match.group(1)), {"title": [lines[0]], "WEAKER": []}, ""
        for line in lines[1:]:
            head, text = line[4:19].strip(), line[19:]
            if text.startswith("WEAKER: "):
                facts["WEAKER"].append(text.removeprefix("WEAKER: "))
                continue
            if text.startswith("        ") and not head:
                facts["WEAKER"][-1] += " " + text.strip()
                continue
            label = head or label
            facts.setdefault(label, []).append(text)
        if pid in found:
            raise AssertionError(f"process {pid} is there twice")
        found[pid] = {label: "\n".join(lines) for label, lines in facts.items()}
    return found


def numbers(text):
    """The descriptors that the lines "0-2 5: what" name, and how many lines there are."""
    found = set()
    for match in re.finditer(r"^((?:\d+(?:-\d+)? ?)+): ", text, re.M):
        for part in match.group(1).split():
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def stand_ins(directory):
    """Compiles the stand-ins into a directory, as jailmapd and jailmap-worker."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unwalled.c")
    path = os.path.join(directory, "jailmapd")
    subprocess.run(
        ["cc", "-D_GNU_SOURCE", "-static", "-o", path, source], check=True, stdin=subprocess.DEVNULL
    )
    shutil.copy(path, os.path.join(directory, "jailmap-worker"))
    return path


class AtWorkTest(unittest.TestCase):
    """A daemon as it should be."""

    @classmethod
    def setUpClass(cls):
        cls.open = []
        cls.addClassCleanup(lambda: [part.close() for part in cls.open] and None)
        directory = workspace().directory("report-tables")
        postmap("hash", os.path.join(directory, "a"), "key value\n")
        cls.table = "hash:" + os.path.join(directory, "a")
        cls.users = "unix:passwd.byname"
        cls.slow = harness.slow_table(directory, "slow")
        cls.jailmapd = harness.Jailmapd(
            "report",
            tables=[cls.table, cls.users, (cls.slow, {"load-time": 3600})],
            allow={str(ALICE): [cls.table, cls.users], str(BOB): [cls.table]},
        )
        cls.addClassCleanup(cls.jailmapd.stop)
        # A working directory that no process is to keep, and a variable that nobody is to see.
        cls.jailmapd.start(
            wrap=nameservice.switched(), env={"SECRET": "of-the-parent"}, cwd=directory
        )
        for uid in (ALICE, ALICE, BOB):
            cls.open.append(cls.jailmapd.client(uid=uid))
            if cls.open[-1].lookup(cls.table, "key") != (OK, b"value"):
                raise AssertionError("the daemon is not at work")
        if cls.open[0].lookup(cls.users, "root")[0] != OK:
            raise AssertionError("the agent is not at work")
        cls.jailmapd.wait_roles("worker", 2)
        cls.loader = cls.jailmapd.catch_loader(cls.slow)
        cls.code, cls.page, cls.errors = sandbox(cls.jailmapd.runtime)
        cls.blocks = blocks(cls.page)

    def everybody(self):
        return {self.jailmapd.pid, *proc.descendants(self.jailmapd.pid)}

    @harness.not_sanitized(WEAKER)
    def test_verdict(self):
        """A daemon at work is as the design wants it: exit status 0, and the last line says so."""
        self.assertEqual(self.errors, "")
        self.assertEqual(re.findall("WEAKER.*", self.page), [])
        last = f"{len(self.blocks)} processes, nothing weaker than the design"
        self.assertEqual((self.code, self.page.splitlines()[-1]), (0, last))

    def test_every_process(self):
        """Every process of the daemon is there, once, and no other."""
        self.assertEqual(set(self.blocks), self.everybody())
        self.assertIn(self.loader, self.blocks)

    def test_identity(self):
        """User, groups, no_new_privs and the number of filters are what /proc says."""
        for pid, facts in self.blocks.items():
            status = proc.status(pid)
            uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
            self.assertRegex(facts["user"], rf"^uid {uids.pop()}, gid {gids.pop()} \(")
            self.assertEqual((uids, gids), (set(), set()))
            groups = re.search(r"other groups(?:: ([\d ]*))?$", facts["user"]).group(1) or ""
            self.assertEqual(groups, status["Groups"])
            self.assertEqual(facts["no_new_privs"], "on" if status["NoNewPrivs"] == "1" else "off")
            filters = re.search(r"filters: (\d+)", facts["seccomp"]).group(1)
            self.assertEqual(filters, status["Seccomp_filters"])

    def test_capabilities(self):
        """Each of the five capability sets is what /proc says."""
        for pid, facts in self.blocks.items():
            seen = set()
            for line in re.sub(r"\n(?!\w+[,:])", " ", facts["capabilities"]).splitlines():
                names, _, held = line.partition(": ")
                held = set() if held == "none" else {CAPABILITIES[name] for name in held.split()}
                for name in names.split(", "):
                    self.assertEqual(held, proc.capabilities(pid, SETS[name]), f"{pid} {name}")
                    seen.add(name)
            self.assertEqual(seen, set(SETS))

    def test_filters(self):
        """Every filter that is loaded was read and is the profile's, byte for byte."""
        for facts in self.blocks.values():
            count = int(re.search(r"filters: (\d+)", facts["seccomp"]).group(1))
            self.assertEqual(facts["seccomp"].count("byte for byte"), count, facts["seccomp"])

    @harness.not_sanitized(WEAKER)
    def test_root_and_namespaces(self):
        """The root directory and the own namespaces of each process are what /proc says."""
        host = self.jailmapd.pid
        for pid, facts in self.blocks.items():
            jail = facts["root directory"].partition(",")[0]
            root, there = (os.stat(path) for path in (f"/proc/{pid}/root", jail))
            self.assertEqual((root.st_dev, root.st_ino), (there.st_dev, there.st_ino))
            own = re.search(r"^own: ([\w -]+)", facts["namespaces"].replace("\n", " "))
            own = set(own.group(1).split()) if own else set()
            for name in ("net", "ipc", "uts", "mnt", "pid", "user", "cgroup"):
                ours, theirs = (os.readlink(f"/proc/{one}/ns/{name}") for one in (pid, host))
                self.assertEqual(name in own, ours != theirs, f"{pid} {name}")

    def test_descriptors(self):
        """Every open descriptor is there, and named as what it is."""
        for pid, facts in self.blocks.items():
            found = {} if facts["descriptors"] == "none" else numbers(facts["descriptors"])
            self.assertEqual(set(found), set(proc.descriptors(pid)), facts["descriptors"])
        clients = [facts["descriptors"].count("client of uid") for facts in self.blocks.values()]
        self.assertEqual(sum(clients), 2)
        self.assertIn("image, sealed", self.blocks[self.jailmapd.pid]["descriptors"])
        self.assertIn("image that is being made", self.blocks[self.loader]["descriptors"])

    @harness.not_sanitized(WEAKER)
    def test_profiles(self):
        """With -a each system call of every profile is named, with its reason."""
        code, page, _ = sandbox(self.jailmapd.runtime, "-a")
        self.assertEqual(code, 0)
        page = " ".join(page.split())
        for name in os.listdir(PROFILES):
            if not name.startswith("profile_") or not name.endswith(".c"):
                continue
            text = proc.read(os.path.join(PROFILES, name))
            for rule in re.finditer(r"\{SCMP_SYS\((\w+)\)(?:[^\"]*)\"([^\"]*)\"", text):
                self.assertRegex(page, rf"\b{rule.group(1)}\b", name)
                self.assertIn(rule.group(2), page, name)

    def test_no_secret(self):
        """Neither the environment of whoever started the daemon nor a table's content is shown."""
        for word in ("of-the-parent", "value"):
            self.assertNotRegex(self.page, rf"\b{word}\b")

    @harness.not_sanitized(WEAKER)
    def test_stopped_stays_stopped(self):
        """A process that was stopped is looked at, and is as stopped afterwards as before."""
        for _ in range(3):
            self.assertEqual(sandbox(self.jailmapd.runtime)[0], 0)
            self.assertEqual(proc.stat_fields(self.loader)[0], "T")
            self.assertEqual(proc.status(self.loader)["TracerPid"], "0")

    def test_killed_tool(self):
        """A tool that is killed at any moment leaves no process stopped or traced, and the daemon
        answers."""
        others = self.everybody() - {self.loader}
        for delay in range(40):
            tool = harness.start(
                [workspace().jailmap, "sandbox", "-d", self.jailmapd.runtime],
                stdout=subprocess.DEVNULL,
            )
            time.sleep(delay / 1000)
            tool.kill()
            harness.wait_exit(tool, "the tool to end")
            self.assertEqual(self.open[0].lookup(self.table, "key"), (OK, b"value"))
        wait_for(
            lambda: all(proc.status(pid)["TracerPid"] == "0" for pid in others | {self.loader}),
            "nobody to be traced",
        )
        self.assertFalse([pid for pid in others if proc.stat_fields(pid)[0] in "Tt"])
        self.assertEqual(proc.stat_fields(self.loader)[0], "T")
        self.assertEqual(self.open[0].lookup(self.users, "root")[0], OK)

    def test_profiles_in_use(self):
        """Without -a the profiles of what runs are printed, each once, and no other."""
        heads = re.findall(r"^Profile of (.*?);", self.page, re.M)
        self.assertEqual(len(heads), len(set(heads)))
        named = re.findall(r"the profile of (.*?), byte for byte", " ".join(self.page.split()))
        self.assertEqual(set(heads), set(named))
        self.assertIn("jailmap-loader for texthash and unix", heads)
        self.assertNotIn("jailmap-loader for lmdb", heads)

    @harness.not_sanitized(WEAKER)
    def test_busy(self):
        """While loaders and workers begin and end all the time, nothing is ever taken for weaker,
        and none of it is an error."""
        small = self.table.partition(":")[2]
        stop = threading.Event()

        def keep_busy():
            while not stop.is_set():
                os.utime(small + ".db")
                with contextlib.closing(self.jailmapd.client(uid=BOB)):
                    pass

        thread = threading.Thread(target=keep_busy)
        thread.start()
        try:
            for _ in range(10):
                code, page, errors = sandbox(self.jailmapd.runtime)
                self.assertEqual((code, errors), (0, ""), re.findall("WEAKER.*", page))
        finally:
            stop.set()
            thread.join()

    @harness.not_sanitized(WEAKER)
    def test_traced(self):
        """A process that somebody traces is named, and its filter is not compared."""
        (worker, *_) = self.jailmapd.wait_roles("worker")
        code = "import ctypes,sys,time; p=ctypes.CDLL(None).ptrace; p.argtypes=[ctypes.c_long]*4\n"
        code += "print(p(0x4206, int(sys.argv[1]), 0, 0), flush=True); time.sleep(600)"
        tracer = harness.start(["python3", "-c", code, str(worker)], stdout=subprocess.PIPE)
        try:
            self.assertEqual(tracer.stdout.readline(), b"0\n")
            status, page, _ = sandbox(self.jailmapd.runtime)
        finally:
            tracer.kill()
            harness.wait_exit(tracer, "the tracer to end")
            tracer.stdout.close()
        self.assertEqual(status, 1)
        self.assertEqual(blocks(page)[worker]["WEAKER"], f"process {tracer.pid} traces it")
        self.assertIn("not compared", blocks(page)[worker]["seccomp"])


class WeakerTest(harness.Case):
    """Daemons that lack a wall."""

    def libexec(self):
        """A private copy of the helper programs."""
        path = os.path.join(workspace().directory("libexec"), "jailmap")
        shutil.copytree(workspace().libexec, path)
        return path

    def weaker(self, page, pid, *patterns):
        """Each pattern matches a weakness of the process."""
        found = blocks(page)[pid]["WEAKER"].splitlines()
        for pattern in patterns:
            self.assertTrue([text for text in found if re.search(pattern, text)], (pattern, found))

    @harness.not_sanitized(WEAKER)
    def test_program_without_walls(self):
        """A worker that enters another filter, has a descriptor that nobody gave it, and maps
        something that it can write: each is named."""
        libexec = self.libexec()
        where = workspace().directory("stand-in")
        stand_ins(where)
        shutil.copy(os.path.join(where, "jailmap-worker"), os.path.join(libexec, "jailmap-worker"))
        daemon = self.jailmapd([self.table("a", "key value\n")], libexec=libexec)
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(daemon.socket)
        (worker,) = daemon.wait_roles("worker")
        wait_for(lambda: list(proc.classify(worker).values()).count("memfd") == 2, "the stand-in")
        code, page, errors = sandbox(daemon.runtime)
        self.assertEqual((code, errors), (1, ""))
        self.weaker(
            page,
            worker,
            "its filter is not the profile of jailmap-worker",
            "images that are mapped and writable, or not sealed",
            "others of its uid can trace it",
            "image that is being made: the design gives it none of that kind",
        )
        others = set(blocks(page)) - {worker}
        self.assertFalse([pid for pid in others if blocks(page)[pid]["WEAKER"]])

    @harness.not_sanitized("without a mount namespace the jail cannot be furnished")
    def test_without_namespaces(self):
        """Where the kernel gives no namespaces, `sandbox = available` goes on without: each process
        in the jail, and what the monitor noted, is marked."""
        daemon = self.jailmapd([self.table("a", "key value\n")], start=False)
        # Without this capability, which root has for making namespaces.
        daemon.start(wrap=["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
        client = self.client(daemon)
        self.assertEqual(client.lookup(self.table("a"), "key"), (OK, b"value"))
        code, page, errors = sandbox(daemon.runtime)
        self.assertEqual((code, errors), (1, ""))
        jailed = [pid for pid, facts in blocks(page).items() if "/empty" in facts["root directory"]]
        self.assertGreaterEqual(len(jailed), 3, page)
        (agents,) = [pid for pid, facts in blocks(page).items() if "agents" in facts["title"]]
        self.weaker(page, agents, r"should not share these with the monitor: pid-of-children")
        for pid in jailed:
            shared = r"should not share these with the monitor: net ipc uts mnt pid"
            self.weaker(page, pid, shared, "no mount of its own")
        for name in ("network", "IPC", "UTS", "mount", "process id"):
            self.assertRegex(page, rf"missing on this system: .* {name} namespace")

    def test_unwalled(self):
        """Of processes without any wall every line is marked; what a title says of a table's
        content is not shown, nor is the environment."""
        where, runtime = workspace().directory("bin"), workspace().directory("unwalled")
        os.mkdir(os.path.join(runtime, "empty"))
        lines = ["jailmap-sandbox 1", "policy\tavailable", f"user\t{JAIL.pw_uid}\t{JAIL.pw_gid}"]
        lines += ["landlock\t0", "missing\tLandlock: this kernel has none"]
        lines += ["missing\tnamespaces: \x1b[31mnot allowed", "end", ""]
        workspace().write(runtime, "sandbox", "\n".join(lines))
        path = stand_ins(where)
        os.chmod(os.path.join(where, "jailmap-worker"), 0o777)
        daemon = harness.start(
            [path, runtime, "jailmap-worker: uid 1 on inline:{key=hush}\x07"],
            env={"SECRET": "of-the-parent"},
            extra_groups=[3, 4],
        )
        self.addCleanup(self.end, daemon)
        workers = wait_for(
            lambda: [
                pid
                for pid in proc.children(daemon.pid)
                if list(proc.classify(pid).values()).count("memfd") == 2
            ],
            "the stand-ins",
        )
        for uid in (ALICE, BOB):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            os.seteuid(uid)
            try:
                client.connect(os.path.join(runtime, "s"))
            finally:
                os.seteuid(0)
        wait_for(
            lambda: len(proc.descriptors(workers[0])) == len(proc.descriptors(daemon.pid)) + 4,
            "the stand-in to take two clients",
        )
        code, page, errors = sandbox(runtime)
        self.assertEqual((code, errors), (1, ""))
        self.weaker(
            page,
            daemon.pid,
            "^effective: more than the design gives: ",
            "^bounding: more than the design gives: ",
            "would stay open in a program that it executes",
            "could gain privileges",
            "of the . filters of the design it has",
        )
        self.weaker(
            page,
            workers[0],
            f"^uid 0 where {JAIL.pw_uid} should be",
            f"^gid 0 where {JAIL.pw_gid} should be",
            "^it is root's",
            "groups that it should have left: 3 4",
            "root directory is not .*/empty",
            "working directory is another",
            "^effective: more than the design gives: .*sys_admin",
            "^permitted: ",
            "^bounding: ",
            "could gain privileges",
            "of the . filters of the design it has",
            "its filter is not the profile of jailmap-launcher",
            "has no Landlock",
            "should not share these with the monitor: net ipc uts mnt pid",
            "others than root can write its program",
            "it has threads",
            "images that are mapped and writable, or not sealed: 1",
            "^processes: ",
            "^file size: ",
            "^memory: ",
            "write and execute",
            "given an environment",
            "jailmapd.pid, read and write: the design gives it none",
            "listening on .*: the design gives it none",
            f"serves two compartments: client of uid {ALICE} .*, and client of uid {BOB} ",
        )
        (child,) = proc.children(workers[0])
        self.weaker(page, child, f"was started by process {workers[0]} and not by the monitor")
        self.assertIn("inline:{...}", page)
        self.assertNotRegex(page, r"hush|of-the-parent|\x1b|\x07")
        self.assertRegex(page, r"missing on this system: Landlock: this kernel has none\n")
        self.assertIn(r"missing on this system: namespaces: \x1b[31mnot allowed", page)
        self.assertRegex(page.splitlines()[-1], r"^3 processes, \d\d weaknesses$")

    def test_jail_with_mounts(self):
        """A jail that can be written, and in which something is mounted, is named as such."""
        where, runtime = workspace().directory("bin"), workspace().directory("mounts")
        os.makedirs(os.path.join(runtime, "empty/sub"))
        text = "jailmap-sandbox 1\npolicy\tstrict\nuser\t1\t1\nlandlock\t7\nend\n"
        workspace().write(runtime, "sandbox", text)
        script = 'mount --make-rprivate / && mount --bind "$1/empty" "$1/empty"'
        script += ' && mount -t tmpfs none "$1/empty/sub" && exec "$0" "$1" "$2"'
        daemon = harness.start(
            ["unshare", "-m", "sh", "-c", script, stand_ins(where), runtime]
            + ["jailmap-worker: chroot"]
        )
        self.addCleanup(self.end, daemon)

        def is_ready(pid):
            with contextlib.suppress(FileNotFoundError):  # the mount commands come and go
                return list(proc.classify(pid).values()).count("memfd") == 2
            return False

        workers = wait_for(
            lambda: [pid for pid in proc.children(daemon.pid) if is_ready(pid)], "the stand-in"
        )
        code, page, _ = sandbox(runtime)
        self.assertEqual(code, 1)
        options = [f"its root directory is not mounted {name}$" for name in ("ro", "nosuid")]
        options += [f"its root directory is not mounted {name}$" for name in ("nodev", "noexec")]
        self.weaker(page, workers[0], "it can reach 2 mounts", *options)

    def test_foreign_program(self):
        """A child that is no program of the design is named."""
        where, runtime = workspace().directory("bin"), workspace().directory("foreign")
        os.mkdir(os.path.join(runtime, "empty"))
        text = "jailmap-sandbox 1\npolicy\tstrict\nuser\t1\t1\nlandlock\t7\nend\n"
        workspace().write(runtime, "sandbox", text)
        path = stand_ins(where)
        os.remove(os.path.join(where, "jailmap-worker"))
        os.symlink("/bin/cat", os.path.join(where, "jailmap-worker"))
        daemon = harness.start([path, runtime, "jailmap-worker"], stdin=subprocess.PIPE)
        self.addCleanup(self.end, daemon)
        wait_for(
            lambda: [pid for pid in proc.children(daemon.pid) if proc.program(pid) == "cat"],
            "the foreign program",
        )
        code, page, _ = sandbox(runtime)
        self.assertEqual(code, 1)
        self.assertIn("the design has no program cat that is called so", page)

    @staticmethod
    def end(process):
        process.kill()
        harness.wait_exit(process, "a stand-in to end")
        if process.stdin:
            process.stdin.close()


class ErrorsTest(harness.Case):
    """What is said when there is nothing to look at."""

    def failed(self, runtime, **options):
        code, out, errors = sandbox(runtime, **options)
        self.assertEqual((out, errors.count("\n")), ("", 1), errors)
        self.assertTrue(errors.startswith("jailmap: "), errors)
        return code, errors

    def test_not_root(self):
        """Another user than root gets exit status 77 and is told why."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        code, errors = self.failed(daemon.runtime, user=ALICE, group=ALICE, extra_groups=[])
        self.assertEqual(code, 77)
        self.assertIn("root", errors)

    def test_not_running(self):
        """No daemon, another directory, a path that is none: exit status 69, and the option is
        named."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        runtime = daemon.runtime
        daemon.stop()
        for path in (runtime, self.directory, self.path("nothing"), "/dev/null"):
            code, errors = self.failed(path)
            self.assertEqual(code, 69, errors)
            self.assertIn("option -d", errors)

    def test_stale(self):
        """The pid file of a monitor that was killed, even if the pid is another process's by now,
        or has no number: exit status 69."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        daemon.process.kill()
        harness.wait_exit(daemon.process, "jailmapd to end")
        daemon.process = None
        pid_file = os.path.join(daemon.runtime, "jailmapd.pid")
        for text in (None, f"{os.getpid()}\n", "1\n", "", "-1\n", "x\n"):
            if text is not None:
                workspace().write(daemon.runtime, "jailmapd.pid", text)
            self.assertTrue(os.path.exists(pid_file))
            code, errors = self.failed(daemon.runtime)
            self.assertEqual(code, 69, errors)
            self.assertIn("does not hold its lock", errors)

    def test_damaged_file(self):
        """A sandbox file that is cut, of another version, or not one: exit status 65; none: 69."""
        daemon = self.jailmapd([self.table("a", "key value\n")])
        path = os.path.join(daemon.runtime, "sandbox")
        good = proc.read(path)
        for text in (
            "",
            good.replace("sandbox 1", "sandbox 2", 1),
            good.removesuffix("end\n"),
            good.replace("landlock\t", "landlock\t-", 1),
            good.replace("user\t", "user\tx", 1),
            good.replace("policy\t", "policy\tno", 1),
            re.sub("landlock.*\n", "", good),
            good.replace("\nend\n", "\nnews\t1\nend\n"),
        ):
            self.assertNotEqual(text, good)
            workspace().write(daemon.runtime, "sandbox", text)
            self.assertEqual(self.failed(daemon.runtime)[0], 65, text)
        os.remove(path)
        self.assertEqual(self.failed(daemon.runtime)[0], 69)

    def test_usage(self):
        """An unknown option or an argument: exit status 64."""
        for options in (["-x"], ["more"]):
            self.assertEqual(sandbox("/", *options)[0], 64)
