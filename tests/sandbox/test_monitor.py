"""The monitor itself, taken over after its start: what it tries with what it has kept of root.

A monitor that its filter kills takes its helpers with it, and each attempt sees that nobody is left;
the next one starts anew. One that is refused serves on.
"""

import os
import signal

import arena
import attempts
import case
import harness
import proc
from case import SandboxCase
from harness import workspace
from protocol import OK
from waiting import wait_for

KILLED, EACCES, EPERM = {"SIGSYS"}, {"EACCES"}, {"EPERM"}

# name, order, what it does, what stops it, and what does without its filter (None: nothing has to)
ATTEMPTS = [
    ("read_table", "open_read {source}", "reads a table", KILLED, None),
    ("read_table_at", "read_at {source}", "reads a table at a place", KILLED, None),
    ("read_table_by_vector", "read_vector {source}", "reads a table into parts", KILLED, None),
    ("map_table", "read_mapped {source}", "maps a table", KILLED, None),
    ("send_table", "read_by_sendfile {source}", "has the kernel send a table", KILLED, None),
    ("copy_table", "read_by_copy {source}", "has the kernel copy a table", KILLED, None),
    ("read_in_place", "read_in_place {source}", "puts a table in the place of its signals", KILLED, None),
    ("reopen_by_hidden_number", "close_hidden {source}", "closes its signals by a number with a 33rd bit", KILLED, None),
    ("reopen_in_place", "close_and_reopen {source}", "opens a table in the place of its signals", KILLED, None),
    ("read_shadow", "open_read /etc/shadow", "reads /etc/shadow", KILLED, None),
    ("read_standard_input", "read_from 0", "reads what is not its to read", KILLED, None),
    ("receive_bridge", "receive_from {bridge}", "receives as from a client", KILLED, None),
    ("execute", "execute /bin/true", "executes a program", KILLED, EACCES),
    ("execute_memory", "execute_memory", "executes what it has in memory", KILLED, EACCES),
    ("execute_descriptor", "execute_descriptor", "executes a descriptor", KILLED, EACCES),
    ("fork", "fork_process", "forks", KILLED, None),
    ("clone3", "clone3_process", "forks by clone3", KILLED, None),
    ("clone_namespace", "clone_namespace", "forks into a new user namespace", KILLED, None),
    ("socket_inet", "socket_inet", "makes an inet socket", KILLED, None),
    ("connect_inet", "connect_inet {port}", "connects to the network", KILLED, EACCES),
    ("socket_packet", "socket_packet", "makes a packet socket", KILLED, EPERM),
    ("socket_netlink", "socket_netlink", "makes a netlink socket", KILLED, None),
    ("send_to_name", "send_to {scratch}/file", "sends to a socket by its name", KILLED, None),
    ("open_for_writing", "open_write {scratch}/file", "opens a file for writing", KILLED, EACCES),
    ("create_file", "open_create {scratch}/x", "makes a file elsewhere", KILLED, EACCES),
    ("create_like_notes", "replace {scratch}/x", "makes a file elsewhere as it made its own, before its filter", KILLED, EACCES),
    ("replace_program", "replace {program}", "writes over its own program", KILLED, EACCES | {"ETXTBSY"}),
    ("move_file", "move {scratch}/file", "moves a file to /etc", EACCES | {"EXDEV"}, EACCES | {"EXDEV"}),
    ("make_socket", "make_socket {scratch}/socket", "makes a socket where no listener was", EACCES, EACCES),
    ("move_socket", "move {socket}", "moves a listener's socket to /etc", EACCES | {"EXDEV"}, EACCES | {"EXDEV"}),
    ("link_file", "link_file {scratch}/file", "links a file", KILLED, EACCES | {"EXDEV", "EPERM"}),
    ("make_directory", "make_directory {scratch}/d", "makes a directory", KILLED, EACCES),
    ("remove_file", "remove_file {scratch}/file", "removes a file elsewhere", EACCES, EACCES),
    ("change_mode", "change_mode {shadow}", "changes the mode of another's file", KILLED, EPERM),
    ("create_unnamed", "open_temporary {scratch}", "makes a file without a name", KILLED, EACCES),
    ("open_memory_of_other", "proc_memory {process}", "opens the memory of a foreign process", KILLED, EACCES | EPERM),
    ("open_own_memory", "proc_own_memory", "opens its own memory for writing", KILLED, EACCES),
    ("kill_foreign", "signal_process {process} 9", "kills a foreign process", EPERM, EPERM),
    ("signal_foreign", "signal_process {process} 15", "signals a foreign process", KILLED, EPERM),
    ("kill_everything", "signal_thread {process} 9", "kills a thread of a foreign process", KILLED, EPERM),
    ("pidfd_foreign", "pidfd_signal {process} 9", "kills a foreign process by a pidfd", KILLED, EPERM),
    ("take_descriptor", "pidfd_descriptor {process}", "takes a descriptor of a foreign process", KILLED, EPERM),
    ("trace_foreign", "trace {process}", "traces a foreign process", KILLED, EPERM),
    ("read_foreign", "memory_read {process}", "reads a foreign process", KILLED, EPERM),
    ("write_worker", "memory_write {worker}", "writes the memory of its worker", KILLED, None),
    ("become_other", "become_root_by_resuid", "changes its identity", KILLED, None),
    ("join_group", "join_group", "joins another group", KILLED, None),
    ("take_capabilities", "take_capabilities", "takes every capability", KILLED, EPERM),
    ("change_root", "change_root /", "changes its root", KILLED, EPERM),
    ("mount", "mount_tmpfs {scratch}", "mounts a file system", KILLED, EPERM),
    ("mount_anew", "mount_anew", "mounts in the new way", KILLED, EPERM),
    ("mount_copy", "mount_copy", "copies its mounts", KILLED, EPERM),
    ("pivot", "pivot", "exchanges its root", KILLED, EPERM),
    ("unshare_network", "unshare_network", "makes a network namespace", KILLED, EPERM),
    ("unshare_user", "unshare_user", "makes a user namespace", KILLED, None),
    ("enter_namespace", "enter_namespace", "enters another namespace", KILLED, EPERM | {"EINVAL"}),
    ("open_by_handle", "open_handle", "opens by handle", KILLED, None),
    ("openat2", "openat2_read /etc/shadow", "opens by openat2", KILLED, None),
    ("bpf", "bpf_map", "makes a BPF map", KILLED, EPERM),
    ("perf", "performance_event", "opens a performance event", KILLED, None),
    ("userfaultfd", "user_faults", "takes page faults into its hands", KILLED, None),
    ("io_uring", "ring", "sets up an io_uring", KILLED, None),
    ("keyctl", "key_control", "looks into key rings", KILLED, None),
    ("kernel_module", "kernel_module", "loads a module", KILLED, EPERM | {"ENOSYS"}),
    ("kernel_log", "kernel_log", "reads the kernel's log", KILLED, EPERM),
    ("reboot", "kernel_boot", "reboots", KILLED, EPERM),
    ("set_clock", "kernel_clock", "sets the clock", KILLED, EPERM),
    ("host_name", "host_name x", "renames the host", KILLED, EPERM),
    ("swap", "swap_on", "swaps to a file", KILLED, EPERM | {"ENOSYS"}),
    ("accounting", "accounting", "writes accounts", KILLED, EPERM | {"ENOSYS"}),
    ("limits", "raise_own_limits", "changes its limits", KILLED, None),
    ("dumpable", "dumpable", "becomes traceable", KILLED, None),
    ("code_map", "code_map", "maps memory that is writable and code", KILLED, None),
    ("code_protect", "code_protect", "turns memory into code", KILLED, None),
    ("code_patch", "code_patch", "makes its own code writable", KILLED, None),
    ("personality", "new_personality", "has all it reads become code", KILLED, None),
    ("x32", "x32_open", "opens by the x32 way into the kernel", KILLED, None),
    ("i386", "i386_open", "opens by the 32-bit way into the kernel", attempts.CRASH, None),
    ("filter_off", "filter_off", "takes its filter off", KILLED, {"EINVAL"}),
]


class MonitorCase(SandboxCase):
    """A monitor with a mailbox; another if the last one has died."""

    bare = False

    @classmethod
    def setUpClass(cls):
        cls.known = cls.targets()
        cls.program, cls.mailbox = arena.attack_monitor(cls.bare)
        directory = workspace().directory("monitor-tables")
        harness.postmap("hash", os.path.join(directory, "table"), "key right\n")
        cls.table = f"hash:{os.path.join(directory, 'table')}"
        cls.source = os.path.join(directory, "table.db")
        cls.secret = workspace().write(directory, "of-nobody", "x", 0o600)
        os.chown(cls.secret, harness.JAIL.pw_uid, -1)
        cls.daemon = None
        cls.addClassCleanup(lambda: cls.daemon and cls.daemon.stop())

    @classmethod
    def living(cls):
        """A daemon that serves."""
        if cls.daemon is None:
            cls.daemon = harness.Jailmapd("monitor", tables=[cls.table]).start(program=cls.program)
        cls.served()
        return cls.daemon

    @classmethod
    def served(cls):
        with cls.daemon.client() as client:
            found = client.lookup(cls.table, "key")
        if found != (OK, b"right"):
            raise AssertionError(f"a client got {found}")

    def attempt(self, order):
        daemon = self.living()
        below = proc.snapshot(daemon.pid)
        words = {
            **self.known,
            "source": self.source,
            "shadow": self.secret,
            "program": self.program,
            "socket": daemon.socket,
            "worker": daemon.wait_roles("worker")[0],
            "bridge": 9,
        }
        self.mailbox.post("monitor", order.format(**words))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_for(lambda: self.mailbox.report() or daemon.process.poll() is not None, "the attempt")
        if daemon.process.poll() is None:
            self.served()
            return self.mailbox.report()
        type(self).daemon = None
        code = harness.wait_exit(daemon.process, "it to end")
        daemon.process = None
        case.wait_nobody(below)
        return arena.FILTER if code == -signal.SIGSYS else f"signal {-code}"

    def tearDown(self):
        self.assertTrue(proc.alive(self.known["process"]), "a foreign process was killed")


class FilteredTest(MonitorCase):
    """The monitor as it is."""


class BareTest(MonitorCase):
    """The walls behind its filter: capabilities and Landlock."""

    bare = True


def add():
    for name, order, does, filtered, bare in ATTEMPTS:
        for target, allowed, who, prefix in (
            (FilteredTest, filtered, "A monitor that was taken over", ""),
            (BareTest, bare, "A monitor without its filter", "bare_"),
        ):
            if allowed is None:
                continue

            def test(self, order=order, allowed=allowed):
                self.stopped(self.attempt(order), allowed)

            test.__doc__ = f"{who} {does}; stopped by {' or '.join(sorted(allowed))}."
            setattr(target, f"test_{prefix}{name}", test)


add()

