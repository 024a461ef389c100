"""What /proc says of processes: who runs below whom, as whom, in which jail, with which descriptors
and memory.

Runs as root inside tests/system/run and only reads. It must never signal a process or write below
/proc.
"""

import contextlib
import ctypes
import os
import re

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD = 438

# Where AddressSanitizer keeps its notes of all memory: 16 TB of addresses, and none of the bytes.
# In other programs there is nothing.
SHADOW = range(0x7FFF7000, 0x10007FFF8000)


def read(path, mode="r"):
    with open(path, mode, **({} if "b" in mode else {"errors": "replace"})) as file:
        return file.read()


def stat_fields(pid):
    """(state, parent pid, start time) of a process, or None when there is none."""
    try:
        text = read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


def ticks(pid):
    """Processor time that a process has used in user mode, in the kernel's ticks."""
    text = read(f"/proc/{pid}/stat")
    return int(text[text.rindex(")") + 2 :].split()[11])


def alive(pid):
    """True when the process exists and is not a zombie."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def some_children(pid):
    """Pids of direct children as the kernel lists them: quick, but it may leave some out while
    others end."""
    try:
        return [
            int(text) for text in read(f"/proc/{pid}/task/{pid}/children").split() if alive(text)
        ]
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


def snapshot(pid):
    """Everything below `pid`, for survivors(): pid -> start time, since pids are used again."""
    fields = ((child, stat_fields(child)) for child in descendants(pid))
    return {child: found[2] for child, found in fields if found}


def survivors(taken):
    """Pids of a snapshot() that still run."""
    return [
        pid
        for pid, start in taken.items()
        if alive(pid) and (stat_fields(pid) or (0,) * 3)[2] == start
    ]


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
        return read(f"/proc/{pid}/cmdline").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def status(pid):
    """/proc/PID/status as a dictionary of strings."""
    lines = read(f"/proc/{pid}/status").splitlines()
    return dict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))


def capabilities(pid, which):
    """A capability set (CapEff, ...) as a set of bit numbers."""
    mask = int(status(pid)[which], 16)
    return {bit for bit in range(64) if mask >> bit & 1}


def unix_sockets():
    """inode -> (type, path, state) of every UNIX socket that /proc/net/unix shows; type 1 stream, 2
    datagram, 5 seqpacket."""
    table = {}
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        table[int(fields[6])] = (
            int(fields[4], 16),
            fields[7] if len(fields) > 7 else "",
            int(fields[5], 16),
        )
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
    return int(re.search(r"^flags:\s*(\d+)", read(f"/proc/{pid}/fdinfo/{fd}"), re.M).group(1), 8)


def classify(pid):
    """fd number -> what it is, one word (with a path where that matters), for a process of
    jailmapd."""
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


def watched(pid):
    """How many descriptors the epoll instance of a process watches."""
    (loop,) = (fd for fd, kind in classify(pid).items() if kind == "eventpoll")
    return read(f"/proc/{pid}/fdinfo/{loop}").count("tfd:")


def share(pid, fd):
    """A descriptor of this process for what another has open: as if it had been passed on."""
    handle = os.pidfd_open(pid)
    try:
        shared = _libc.syscall(_PIDFD_GETFD, handle, fd, 0)
        if shared < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return shared
    finally:
        os.close(handle)


def memory(pid, files=True):
    """All readable memory of a process, and what its memory files hold, as one bytes object: what a
    takeover of it would see. Without `files`, only what is in its address space."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in read(f"/proc/{pid}/maps").splitlines():
            span, rights = line.split()[:2]
            if "r" not in rights or line.endswith(("[vsyscall]", "[vvar]", "[vvar_vclock]")):
                continue
            start, end = (int(text, 16) for text in span.split("-"))
            if start in SHADOW:
                continue
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
                parts.append(read(f"/proc/{pid}/fd/{fd}", "rb"))
    return b"\n".join(parts)
