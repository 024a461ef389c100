"""The attempts to get out by a system call: for each, what it does, and what stops it where.

Read by test_*.py. The words in braces are filled in with what the attacker would have found out:
pids, paths, ports. An attempt is stopped when its process is killed by its filter (SIGSYS), or when
the kernel refuses with one of the errors that are listed; whatever else comes of it is a failure.
"""

KILLED = {"SIGSYS"}


class Attempt:
    """A system attempt: `order` as tests/sandbox/system_attempts.c knows it, and what it does, for
    a sentence that begins with who was taken over."""

    def __init__(self, name, order, does, bare=(), agent=KILLED, bare_agent=None, only=None):
        self.name = name
        self.order = order
        self.does = does
        self.bare = set(bare or ())  # what may stop it in a jailed program without its filter
        self.agent = set(agent) if agent is not None else None  # in an agent; None: it may do that
        self.bare_agent = set(bare_agent or ())  # and in one without its filter
        self.only = only  # the programs in which there is such a thing; None: in all


DENIED = {"EACCES", "EPERM", "EROFS"}
GONE = {"ENOENT", "EACCES"}
NOBODY = {"ESRCH", "EPERM"}
CRASH = KILLED | {"signal 11"}
IMAGE = ("worker", "loader")

SYSTEM = [
    # ---- files ----
    Attempt("open_passwd", "open_read /etc/passwd", "opens /etc/passwd", GONE, None),
    Attempt("open_shadow", "open_read /etc/shadow", "opens /etc/shadow", GONE, DENIED, DENIED),
    Attempt("open_socket_directory", "open_read {directory}", "opens the daemon's directory", GONE, None),
    Attempt("open_notes", "open_read {runtime}/sandbox", "opens what the monitor has noted of its walls", GONE, DENIED, DENIED),
    Attempt("open_root", "open_read /", "lists its root directory", DENIED, None),
    Attempt("openat2", "openat2_read /etc/passwd", "opens by openat2", GONE | {"ENOSYS"}, {"ENOSYS"}, {"ENOSYS"}),
    Attempt("open_for_writing", "open_write /dev/null", "opens for writing", GONE, DENIED, DENIED),
    Attempt("create_file", "open_create /x", "makes a file in its root", DENIED, DENIED, DENIED),
    Attempt("create_in_tmp", "open_create {scratch}/x", "makes a file where everybody may", GONE, DENIED, DENIED),
    Attempt("create_unnamed", "open_temporary {scratch}", "makes a file without a name", GONE, DENIED, DENIED),
    Attempt("create_in_dot", "open_create x", "makes a file where it stands", DENIED, DENIED, DENIED),
    Attempt("open_by_handle", "open_handle", "opens by handle", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("make_directory", "make_directory /x", "makes a directory", DENIED, DENIED, DENIED),
    Attempt("remove_file", "remove_file {scratch}/file", "removes a file", GONE, DENIED, DENIED),
    Attempt("change_mode", "change_mode {scratch}/file", "changes the mode of a file", GONE, KILLED, {"EPERM"}),
    # ---- other processes ----
    Attempt("proc_monitor_memory", "proc_memory {monitor}", "opens the monitor's memory in /proc", GONE, DENIED, DENIED),
    Attempt("proc_monitor_descriptors", "proc_descriptors {monitor}", "lists the monitor's descriptors", GONE, DENIED, DENIED),
    Attempt("proc_sibling_memory", "proc_memory {sibling}", "opens a sibling's memory in /proc", GONE, DENIED, DENIED),
    Attempt("proc_own_memory", "proc_own_memory", "opens its own memory for writing", GONE, DENIED, DENIED),
    Attempt("trace_monitor", "trace {monitor}", "traces the monitor", NOBODY, KILLED, NOBODY),
    Attempt("trace_sibling", "trace {sibling}", "traces a sibling", NOBODY, KILLED, NOBODY),
    Attempt("read_monitor", "memory_read {monitor}", "reads the monitor's memory", NOBODY, KILLED, NOBODY),
    Attempt("write_monitor", "memory_write {monitor}", "writes the monitor's memory", NOBODY, KILLED, NOBODY),
    Attempt("write_sibling", "memory_write {sibling}", "writes a sibling's memory", NOBODY, KILLED, NOBODY),
    Attempt("kill_monitor", "signal_process {monitor} 0", "signals the monitor", NOBODY, KILLED, NOBODY),
    Attempt("kill_sibling", "signal_process {sibling} 0", "signals a sibling", NOBODY, KILLED, NOBODY),
    Attempt("kill_sibling_inside", "signal_process {inside} 0", "signals a sibling by its number inside", NOBODY, KILLED, NOBODY),
    Attempt("kill_anchor", "signal_process 1 0", "signals pid 1", NOBODY, KILLED, NOBODY),
    Attempt("kill_foreign", "signal_process {process} 0", "signals a foreign process", NOBODY, KILLED, NOBODY),
    Attempt("kill_thread", "signal_thread {sibling} 0", "signals a sibling's thread", NOBODY, KILLED, NOBODY),
    Attempt("kill_by_queue", "signal_queue {monitor}", "queues a signal to the monitor", NOBODY, KILLED, NOBODY),
    Attempt("pidfd_monitor", "pidfd_signal {monitor} 0", "signals the monitor by a pidfd", NOBODY, KILLED | NOBODY, NOBODY),
    Attempt("pidfd_sibling", "pidfd_signal {sibling} 0", "signals a sibling by a pidfd", NOBODY, KILLED | NOBODY, NOBODY),
    Attempt("pidfd_descriptor", "pidfd_descriptor {monitor}", "takes a descriptor of the monitor's", NOBODY, KILLED | NOBODY, NOBODY),
    Attempt("pidfd_sibling_descriptor", "pidfd_descriptor {sibling}", "takes a sibling's descriptor", NOBODY, KILLED | NOBODY, NOBODY),
    Attempt("signal_by_hidden_owner", "signal_by_hidden_owner {monitor}", "has the kernel do so by a command with a 33rd bit", None, KILLED, None),
    Attempt("signal_by_owner", "signal_by_owner {monitor}", "has the kernel signal the monitor", None, KILLED, None),
    Attempt("limits_of_monitor", "limits_of_other {monitor}", "lowers the monitor's limits", NOBODY, KILLED, NOBODY),
    Attempt("limits_of_sibling", "limits_of_other {sibling}", "lowers a sibling's limits", NOBODY, KILLED, NOBODY),
    Attempt("priority_of_monitor", "priority_of_other {monitor}", "slows the monitor down", NOBODY, KILLED, NOBODY),
    Attempt("affinity_of_monitor", "affinity_of_other {monitor}", "moves the monitor to another CPU", NOBODY, KILLED, NOBODY),
    Attempt("scheduler_of_monitor", "scheduler_of_other {monitor}", "changes the monitor's scheduler", NOBODY, KILLED, NOBODY),
    Attempt("compare_monitor", "compare_other {monitor}", "compares kernel objects of the monitor", NOBODY, KILLED, NOBODY),
    Attempt("raise_limits", "raise_own_limits", "raises its own limits", DENIED, DENIED, DENIED),
    # ---- processes ----
    Attempt("execute", "execute /bin/true", "executes a program", GONE, KILLED, None),
    Attempt("execute_itself", "execute /proc/self/exe", "executes itself", GONE, KILLED, None),
    Attempt("execute_descriptor", "execute_descriptor", "executes a descriptor", {"EACCES", "ENOEXEC", "EPERM"}, KILLED, DENIED),
    Attempt("execute_memory", "execute_memory", "executes what it has in memory", GONE | {"EPERM", "EFBIG"}, KILLED | DENIED, {"EFBIG"}),
    Attempt("fork", "fork_process", "forks", {"EAGAIN"}, {"EAGAIN"}, {"EAGAIN"}),
    Attempt("clone3", "clone3_process", "forks by clone3", {"ENOSYS"}, {"ENOSYS"}, {"ENOSYS"}),
    Attempt("clone_sibling", "clone_sibling", "makes a sibling of its own", {"ENOSYS"}, {"ENOSYS"}, {"ENOSYS"}),
    Attempt("clone_namespace", "clone_namespace", "forks into a new user namespace", KILLED, KILLED, KILLED),
    # ---- identity ----
    Attempt("become_root", "become_root", "becomes root", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("become_root_by_resuid", "become_root_by_resuid", "becomes root by setresuid", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("become_root_group", "become_root_group", "takes root's group", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("join_group", "join_group", "joins another group", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("file_identity", "file_identity", "takes root's identity for files", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("take_capabilities", "take_capabilities", "takes every capability", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("filter_off", "filter_off", "takes its filter off", {"EINVAL"}, KILLED | {"EINVAL"}, {"EINVAL"}),
    # ---- the file tree ----
    Attempt("change_root", "change_root /", "changes its root", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("chroot_twice", "chroot_twice", "climbs out by a second chroot", DENIED, DENIED, DENIED),
    Attempt("climb", "climb", "climbs up from where it stands", GONE, None, only=("worker", "loader", "scribe", "census")),
    Attempt("open_above", "open_above_jail", "opens a path that leads up", GONE, None),
    Attempt("enter_directory", "enter_directory", "enters a directory that its client passes to it", GONE, None, only=("worker",)),
    Attempt("open_below_directory", "open_below_directory", "opens below a directory that its client passes to it", GONE, None, only=("worker",)),
    Attempt("mount", "mount_tmpfs", "mounts a file system", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("mount_anew", "mount_anew", "mounts in the new way", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("mount_copy", "mount_copy", "copies its mounts", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("unmount", "unmount", "unmounts its root", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("pivot", "pivot", "exchanges its root", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("unshare_user", "unshare_user", "makes a user namespace", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("unshare_network", "unshare_network", "makes a network namespace", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("enter_namespace", "enter_namespace", "enters another namespace", {"EINVAL", "EPERM"}, KILLED, {"EINVAL", "EPERM"}),
    # ---- network ----
    Attempt("connect_inet", "connect_inet {port}", "connects to a server on the network", {"ENETUNREACH", "EACCES"}, None),
    Attempt("connect_local", "connect_local {socket}", "connects to the daemon's own socket", GONE, None),
    Attempt("connect_log", "connect_local /run/systemd/notify", "connects to the service manager", GONE, None),
    Attempt("connect_abstract", "connect_local {abstract}", "connects to an abstract socket", {"ECONNREFUSED", "EPERM"}, None),
    Attempt("connect_held", "connect_held {socket}", "connects a socket that it has elsewhere", GONE | {"EISCONN", "EPROTOTYPE", "EINVAL"}, None),
    Attempt("bind_held", "bind_held", "gives a socket that it has a name", None, None),
    Attempt("listen_held", "listen_held", "listens on a socket that it has", {"EINVAL"}, None),
    Attempt("accept_held", "accept_held", "accepts on a socket that it has", {"EINVAL"}, None),
    Attempt("socket_inet", "socket_inet", "makes an inet socket", None, None),
    Attempt("socket_pair", "socket_pair", "makes a pair of sockets", None, None),
    Attempt("socket_packet", "socket_packet", "makes a packet socket", {"EPERM", "EACCES"}, {"EPERM"}, {"EPERM"}),
    Attempt("socket_netlink", "socket_netlink", "makes a netlink socket", None, None),
    Attempt("socket_option", "socket_option", "sets an option of a socket", None, None),
    # ---- the kernel ----
    Attempt("keyctl", "key_control", "looks into key rings", {"EACCES", "ENOSYS"}, KILLED, None),
    Attempt("add_key", "key_add", "adds a key", {"EACCES", "EDQUOT", "ENOSYS"}, KILLED, None),
    Attempt("request_key", "key_request", "requests a key", {"ENOKEY", "ENOSYS"}, KILLED, None),
    Attempt("bpf", "bpf_map", "makes a BPF map", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("perf", "performance_event", "opens a performance event", DENIED | {"ENOSYS", "ENOENT"}, KILLED, None),
    Attempt("userfaultfd", "user_faults", "takes page faults into its hands", {"EPERM", "ENOSYS"}, KILLED, None),
    Attempt("io_uring", "ring", "sets up an io_uring", {"EPERM", "ENOSYS", "ENOMEM"}, KILLED, None),
    Attempt("kernel_log", "kernel_log", "reads the kernel's log", {"EPERM"}, KILLED, None),
    Attempt("kernel_module", "kernel_module", "loads a module", {"EPERM", "ENOSYS"}, KILLED, {"EPERM", "ENOSYS"}),
    Attempt("reboot", "kernel_boot", "reboots", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("set_clock", "kernel_clock", "sets the clock", {"EPERM"}, KILLED, {"EPERM", "EINVAL"}),
    Attempt("host_name", "host_name x", "renames the host", {"EPERM"}, KILLED, {"EPERM"}),
    Attempt("accounting", "accounting", "writes accounts", {"EPERM", "ENOSYS"}, KILLED, {"EPERM", "ENOSYS"}),
    Attempt("swap", "swap_on", "swaps to a file", {"EPERM", "ENOSYS"}, KILLED, {"EPERM", "ENOSYS"}),
    Attempt("shared_memory", "shared_memory", "makes System V shared memory", None, KILLED, None),
    Attempt("semaphores", "shared_semaphore", "makes System V semaphores", None, KILLED, None),
    Attempt("message_queue", "message_queue", "makes a message queue", {"EMFILE", "EACCES"}, KILLED, {"EMFILE"}),
    Attempt("watch_all_files", "watch_all_files", "watches every file", {"EPERM", "ENOSYS"}, KILLED | {"EPERM", "ENOSYS"}, None),
    Attempt("terminal_input", "terminal_input", "pushes input into a terminal", {"ENOTTY", "EIO", "EPERM"}, KILLED | {"ENOTTY", "EIO"}, {"ENOTTY", "EACCES"}),
    Attempt("personality", "new_personality", "has all it reads become code", None, KILLED, None),
    Attempt("x32", "x32_open", "opens by the x32 way into the kernel", KILLED | {"ENOSYS"}, KILLED, {"ENOSYS"}),
    Attempt("i386", "i386_open", "opens by the 32-bit way into the kernel", CRASH | GONE | {"EFAULT"}, CRASH, CRASH | {"EFAULT"}),
    # ---- memory ----
    Attempt("memory_file", "make_memory_file", "makes a memory file", None, DENIED),
    Attempt("code_map", "code_map", "maps memory that is writable and code", None, KILLED, None),
    Attempt("code_from_file", "code_from_file", "maps what it was given as code", None, KILLED, only=IMAGE),
    Attempt("code_protect", "code_protect", "turns memory into code", None, KILLED),
    Attempt("code_patch", "code_patch", "makes its own code writable", None, KILLED | DENIED, None),
    Attempt("write_image", "image_write", "writes into an image", {"EBADF", "EPERM"}, only=("worker",)),
    Attempt("write_image_at", "image_write_at", "writes into an image at a place", {"EBADF", "EPERM"}, only=("worker",)),
    Attempt("truncate_image", "image_truncate", "cuts an image short", {"EINVAL", "EPERM"}, only=("worker",)),
    Attempt("punch_image", "image_punch", "punches a hole into an image", {"EBADF", "EPERM"}, only=("worker",)),
    Attempt("map_image_writable", "image_map_writable", "maps an image writable", {"EACCES", "EPERM"}, only=("worker",)),
    Attempt("protect_image", "image_protect", "makes its mapping of an image writable", {"EACCES", "EPERM"}, only=("worker",)),
    Attempt("reopen_image", "image_open_anew", "opens an image anew for writing", GONE, only=IMAGE),
    Attempt("seal_image", "image_seals", "seals an image before its time", {"EPERM"}, only=("worker",)),
    Attempt("write_page", "image_write", "writes into a page of counters", {"EBADF", "EPERM"}, only=("census",)),
    Attempt("truncate_page", "image_truncate", "cuts a page of counters short", {"EINVAL", "EPERM"}, only=("census",)),
    Attempt("punch_page", "image_punch", "punches a hole into a page of counters", {"EBADF", "EPERM"}, only=("census",)),
    Attempt("map_page_writable", "image_map_writable", "maps a page of counters writable", {"EACCES", "EPERM"}, only=("census",)),
    Attempt("protect_page", "image_protect", "makes its mapping of a page of counters writable", {"EACCES", "EPERM"}, only=("census",)),
    Attempt("reopen_page", "image_open_anew", "opens a page of counters anew for writing", GONE, only=("census",)),
    Attempt("write_source", "source_write", "writes into its source", {"EBADF"}, only=("loader",)),
    Attempt("map_source_writable", "source_map_writable", "maps its source writable", {"EACCES"}, only=("loader",)),
    Attempt("reopen_source", "source_open_anew", "opens its source anew for writing", GONE, only=("loader",)),
    Attempt("outlive_monitor", "outlive_monitor", "asks not to be ended with the monitor", None, KILLED, None),
    Attempt("dumpable", "dumpable", "lets itself be traced", None, KILLED, None),
    Attempt("duplicate", "duplicate", "duplicates a descriptor", None, None),
]

# One or two for each part of a filter that kills by default, for programs that have it from the same
# parts as another, in which all of them are tried.
FEW = (
    "open_", "create_", "remove_", "kill_monitor", "trace_monitor", "write_monitor", "signal_by_",
    "execute", "fork", "clone_", "become_root", "filter_off", "change_root", "mount", "connect_",
    "bind_", "accept_", "socket_", "bpf", "i386", "x32", "memory_file", "code_", "outlive_",
    "duplicate",
)  # fmt: skip

GIFTS = {"enter_directory", "open_below_directory"}
OPENAT = ("open_read", "open_write", "open_create", "open_temporary", "open_above", "proc_", "image_open", "source_open")

# Where a filter answers with an error, or where the wall that is met first is another. In all others
# that are jailed, all is killed, and what comes by the 32-bit way crashes.
FILTERED = {
    "worker": {
        "map_image_writable": KILLED | {"EACCES"},
        "i386": CRASH,
    },
    # libdb looks for the number of CPUs when it starts, and is told that there is no such file.
    "loader": {
        **{one.name: KILLED | {"ENOENT"} for one in SYSTEM if one.order.startswith(OPENAT)},
        "write_source": {"EBADF"},
        "i386": CRASH,
    },
}


# Programs that may do what a list does not forbid, and run outside the jail.
OUTSIDE = ("agent", "reader", "dialer")
# Agents of databases: outside, too, but with a list of what they may do. Opening to read is in it,
# and then Landlock answers.
SQL = ("mysql", "pgsql")
READS = {"open_passwd", "open_shadow", "open_socket_directory", "open_notes", "open_root", "open_above", "proc_monitor_descriptors"}
UNREADABLE = {"EACCES"}
# Walls of the dialer, with its filter and without, that the name service agent does not have.
DIALER = {
    "connect_inet": (UNREADABLE, UNREADABLE),
    "listen_held": (KILLED, None),
    "accept_held": (KILLED, None),
    "socket_packet": (KILLED, {"EPERM"}),
    "execute": (KILLED, UNREADABLE),
    "execute_itself": (KILLED, UNREADABLE),
}
SQL_BARE = {
    **dict.fromkeys(READS, UNREADABLE),
    "connect_inet": UNREADABLE,
    "connect_abstract": {"EPERM"},
    "execute": UNREADABLE,
    "execute_itself": UNREADABLE,
}


def stops_sql(attempt, bare):
    """The same of an agent of a database; without its filter, the launcher's is still there."""
    if bare:
        allowed = SQL_BARE.get(attempt.name, attempt.bare_agent)
        return allowed | KILLED if allowed else None
    if attempt.name in READS:
        return KILLED | UNREADABLE
    return CRASH if attempt.name == "i386" else KILLED


def stops(attempt, program, bare):
    """What may stop it in that program; None: there is nothing to stop there."""
    if attempt.only is not None and program not in attempt.only:
        return None
    if attempt.order in GIFTS:  # since Linux 6.16 a worker need not take what it did not ask for
        return (attempt.bare if bare else set()) | KILLED | {"EPERM"}
    if program in SQL:
        return stops_sql(attempt, bare)
    if program == "dialer" and attempt.name in DIALER:
        return DIALER[attempt.name][bare]
    if program in OUTSIDE:
        if bare:  # the launcher's filter is still there
            return attempt.bare_agent | KILLED if attempt.bare_agent else None
        return attempt.agent or None
    if bare:
        return attempt.bare | KILLED if attempt.bare else None
    return FILTERED.get(program, {"i386": CRASH}).get(attempt.name, KILLED)


def fill(attempt, words):
    return attempt.order.format(**words)
