"""What the kernel has no more of: descriptors, and watches.

Nobody is taken over here; but who is may have used them up. The daemon must go on, say so, and come
back by itself.
"""

import os
import resource
import signal
import stat

import arena
import harness
import proc
from case import SandboxCase
from harness import workspace
from protocol import GREETING, OK
from waiting import wait_for


class LackingTest(SandboxCase):
    """A monitor that gets an error where there is none as a rule."""

    def begin(self, program, text):
        """(daemon of that program, client, its one table, of that text)."""
        path = os.path.join(workspace().directory("lacking"), "table")
        harness.postmap("hash", path, text)
        daemon = harness.Jailmapd("lacking", tables=[f"hash:{path}"])
        self.addCleanup(daemon.stop)
        daemon.start(program=program)
        client = daemon.client()
        self.addCleanup(client.close)
        return daemon, client, f"hash:{path}"

    def test_no_descriptors(self):
        """The monitor cannot accept for want of descriptors; clients wait, who is connected is
        served, and when there are some again the waiting are greeted."""
        place = self.arena()
        mark = place.daemon.mark()
        used = {int(name) for name in os.listdir(f"/proc/{place.pid}/fd")}
        free = next(number for number in range(4096) if number not in used)
        _, hard = resource.prlimit(place.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(place.pid, resource.RLIMIT_NOFILE, (free, hard))
        client = place.daemon.client(uid=place.uid(), greeting=False)
        self.addCleanup(client.close)
        place.daemon.wait_log("cannot accept clients for the moment: Too many open files", mark)
        place.bystander.served()
        resource.prlimit(place.pid, resource.RLIMIT_NOFILE, (hard, hard))
        self.assertEqual(client.receive(), GREETING)
        self.assertEqual(client.lookup(place.table, "key"), (OK, b"own"))
        place.vital()

    def test_no_watches(self):
        """The kernel has no watches left; the daemon says so once, and notices changes by
        looking."""
        program, mailbox = arena.attack_monitor()
        mailbox.put("no watches")
        daemon, client, table = self.begin(program, "key old\n")
        daemon.wait_log("no watch for .*No space left on device")
        self.assertEqual(client.lookup(table, "key"), (OK, b"old"))
        harness.postmap("hash", table.removeprefix("hash:"), "key new\n")
        wait_for(lambda: client.lookup(table, "key") == (OK, b"new"), "the change to be noticed")
        self.assertEqual(daemon.log().count("no watch for"), 1)

    def test_no_renaming(self):
        """A reload cannot put the new socket of a listener into its place: the old one, which may
        let in more than the policy, closes, with a line that says so; who is connected is served,
        and another reload puts things right."""
        program, mailbox = arena.attack_monitor()
        daemon, client, table = self.begin(program, "key value\n")
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        text = proc.read(daemon.config)
        self.assertEqual(text.count("mode = 0666"), 1)
        workspace().write(daemon.directory, "jailmapd.conf", text.replace("0666", "0600"))
        mailbox.put("no renaming")
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("cannot be replaced .* nobody can connect until a reload", mark)
        daemon.wait_log("jailmapd: reloaded: listeners .0 -0 ~1", mark)
        self.assertRaises(OSError, daemon.client)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        workspace().write(daemon.directory, "jailmapd.conf", text.replace("0666", "0640"))
        mailbox.put("nothing")
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("jailmapd: reloaded: listeners .0 -0 ~1", mark)
        with daemon.client() as other:
            self.assertEqual(other.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(stat.S_IMODE(os.stat(daemon.socket).st_mode), 0o640)
        self.assertNotIn("warning", daemon.log(mark))
        left = [name for name in os.listdir(os.path.dirname(daemon.socket)) if "jailmap-" in name]
        self.assertEqual(left, [])
