"""The sandbox as a whole: what is said and done where a system lacks a part of it, and what becomes
of the daemon when the processes that start the others die.
"""

import os
import re
import signal
import sys

import harness
import proc
from harness import workspace
from protocol import GREETING, OK
from waiting import wait_for

ALICE, BOB = 1, 2
NAMESPACES = ("a network", "an IPC", "a UTS", "a mount", "a process id")
SAY = {
    "landlock": [
        r"the monitor lacks Landlock: ",
        r"helpers in the jail lack Landlock: ",
    ],
    "namespaces": [
        *(f"helpers in the jail lack {kind} namespace: " for kind in NAMESPACES),
        r"helpers outside the jail lack a process id namespace: ",
    ],
}
USERS = "unix:passwd.byname"


def without(part):
    return [sys.executable, os.path.join(os.path.dirname(__file__), "without.py"), part]


class WallsTest(harness.Case):
    """What is lacking, and the launchers."""

    def sandbox_file(self, daemon):
        """What stands in runtime-dir/sandbox, as (word, rest) pairs."""
        path = os.path.join(daemon.runtime, "sandbox")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        lines = proc.read(path).splitlines()
        self.assertEqual((lines[0], lines[-1]), ("jailmap-sandbox 1", "end"))
        return [tuple(line.split("\t", 1)) for line in lines[1:-1]]

    @harness.not_sanitized("the jail is furnished there, for which it needs a mount namespace")
    def test_available(self):
        """Where Landlock or namespaces are lacking, `sandbox = available` serves without, and the
        log and the sandbox file say of each what is lacking."""
        table = self.table("a", "key value\n")
        for part, lines in SAY.items():
            daemon = self.jailmapd([table, USERS], start=False)
            daemon.start(wrap=without(part))
            log = daemon.log()
            said = re.findall(r"warning: sandbox: (.*); going on without, as sandbox = avail", log)
            self.assertEqual(len(said), len(lines), said)
            for line, found in zip(sorted(lines), sorted(said)):
                self.assertRegex(found, line)
            missing = [rest for word, rest in self.sandbox_file(daemon) if word == "missing"]
            self.assertEqual(sorted(missing), sorted(said))
            client = self.client(daemon)
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
            self.assertEqual(client.lookup(USERS, "root")[0], OK)
            worker = daemon.wait_roles("worker")[0]
            jail = os.stat(os.path.join(daemon.runtime, "empty"))
            root = os.stat(f"/proc/{worker}/root/")
            self.assertEqual((root.st_dev, root.st_ino), (jail.st_dev, jail.st_ino))
            daemon.stop()

    def test_strict(self):
        """`sandbox = strict` starts where nothing is lacking, without a word; else it is exit 69
        and one line that names all that is lacking, and nothing is left."""
        table = self.table("a", "key value\n")
        for part, lines in [(None, []), *SAY.items()]:
            daemon = self.jailmapd([table], start=False)
            with open(daemon.config, "a", encoding="ascii") as file:
                file.write("sandbox = strict\n")
            if part is None:
                daemon.start()
                self.assertNotIn("sandbox", daemon.log())
                self.assertIn(("policy", "strict"), self.sandbox_file(daemon))
                self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))
                continue
            code, _, errors = harness.run(
                [*without(part), workspace().jailmapd, "-f", "-c", daemon.config]
            )
            self.assertEqual((code, errors.count("\n")), (69, 1), errors)
            self.assertRegex(errors, r"^jailmapd: not started, as sandbox = strict says: ")
            for line in lines:
                self.assertRegex(errors, line)
            self.assertFalse(os.path.exists(daemon.socket))
            self.assertEqual(os.listdir(daemon.runtime), ["empty"])

    def test_jail_not_empty(self):
        """A jail that is not empty, or that others can write, is refused: exit 78, one line that
        names what is there, and nothing is started."""
        daemon = self.jailmapd([self.table("a", "key value\n")], start=False)
        os.makedirs(os.path.join(daemon.runtime, "empty"), exist_ok=True)
        jail = os.path.join(daemon.runtime, "empty")
        for spoil, mend, word in (
            (lambda: workspace().write(jail, "left", ""), lambda: os.unlink(jail + "/left"), "left"),
            (lambda: os.chmod(jail, 0o777), lambda: os.chmod(jail, 0o755), "writable by nobody"),
            (lambda: os.chown(jail, ALICE, 0), lambda: os.chown(jail, 0, 0), "belong to root"),
        ):
            spoil()
            code, _, errors = harness.run([workspace().jailmapd, "-f", "-c", daemon.config])
            self.assertEqual((code, errors.count("\n")), (78, 1), errors)
            self.assertIn(word, errors)
            mend()
        daemon.start()

    def dies(self, daemon, pid, why):
        """Kills pid; the daemon must end in order, with a line that says so."""
        client = self.client(daemon)
        self.assertEqual(client.lookup(USERS, "root")[0], OK)
        below = proc.snapshot(daemon.pid)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to stop"), 70)
        harness.wait_ended(below, "the helpers to end")
        self.assertEqual(client.receive_all(), b"")
        self.assertFalse(os.path.exists(daemon.socket))
        self.assertEqual(os.listdir(daemon.runtime), ["empty"])
        self.assertRegex(daemon.log(), why)

    def test_launcher_killed(self):
        """When a launcher is killed, which only root can do, the daemon ends with exit status 70
        and leaves nothing, for its service manager to start it again."""
        for place in ("jail", "agents"):
            daemon = self.jailmapd([USERS])
            self.dies(
                daemon,
                daemon.launchers()[place],
                rf"error: stopped: jailmap-launcher: {place} pid \d+ died: signal 9; without it no "
                "helper can be started$",
            )

    def test_anchor_killed(self):
        """When the first process of the jail's pid namespace is killed, all in it are, the scribe
        among them, and the daemon ends likewise."""
        daemon = self.jailmapd([USERS])
        (anchor,) = proc.children(daemon.launchers()["jail"])
        self.dies(daemon, anchor, r"error: stopped: jailmap-launcher: jail pid \d+ died")

    def test_launcher_stopped(self):
        """While a launcher does not get on, who is served goes on, the monitor goes on, and
        newcomers wait."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={str(ALICE): ["*"], str(BOB): ["*"]})
        alice = self.client(daemon, uid=ALICE)
        self.assertEqual(alice.lookup(table, "key"), (OK, b"value"))
        launcher = daemon.launchers()["jail"]
        os.kill(launcher, signal.SIGSTOP)
        bob = self.client(daemon, uid=BOB, greeting=False)
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("SIGHUP", since=mark)
        second = self.client(daemon, uid=ALICE)
        for client in (alice, second):
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(len(daemon.roles()["worker"]), 1)
        os.kill(launcher, signal.SIGCONT)
        self.assertEqual(bob.receive(), GREETING)
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        wait_for(lambda: len(daemon.roles()["worker"]) == 2, "a worker for bob")

    def test_not_reading(self):
        """A worker that reads none of its messages, because it is stopped, is ended after a while,
        with a line that says why; its user is served by the next one, and others never notice."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={str(ALICE): ["*"], str(BOB): ["*"]})
        alice, bob = self.client(daemon, uid=ALICE), self.client(daemon, uid=BOB)
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(alice.lookup(table, "key"), (OK, b"value"))
        (worker,) = [pid for pid in daemon.roles()["worker"] if f"uid {ALICE} " in proc.arguments(pid)[0]]
        os.kill(worker, signal.SIGSTOP)
        self.client(daemon, uid=ALICE, greeting=False)
        daemon.wait_log(rf"worker pid {worker} for uid {ALICE} .* it does not read its messages")
        self.assertEqual(alice.receive_all(), b"")
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        again = self.client(daemon, uid=ALICE, greeting=False)
        wait_for(lambda: again.receive() == GREETING, "the next worker")
        self.assertEqual(again.lookup(table, "key"), (OK, b"value"))
