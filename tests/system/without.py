#!/usr/bin/python3
"""Runs a command on what looks like a kernel, or a container, that lacks a part of the sandbox:

    without.py landlock|namespaces COMMAND...

Started by the tests as root. It takes something away from itself and executes the command; it must
never do anything else.
"""

import ctypes
import errno
import os
import sys

SCMP_ACT_ALLOW, SCMP_ACT_ERRNO = 0x7FFF0000, 0x00050000
CLONE_NEW = (0x08000000, 0x04000000, 0x40000000, 0x20000000, 0x00020000)  # ipc uts net pid mnt
SCMP_CMP_MASKED_EQ = 7


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp(3)."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def refuse(rules):
    """Has each of (system call, conditions, errno) refused from now on."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(SCMP_ACT_ALLOW))
    for name, conditions, error in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        array = (Compare * max(1, len(conditions)))(*conditions)
        if library.seccomp_rule_add_array(
            context, SCMP_ACT_ERRNO | error, number, len(conditions), array
        ):
            sys.exit(f"without.py: no rule for {name}")
    if library.seccomp_load(context):
        sys.exit("without.py: the filter is not taken")


WITHOUT = {
    "landlock": [("landlock_create_ruleset", [], errno.ENOSYS)],
    "namespaces": [
        ("unshare", [Compare(0, SCMP_CMP_MASKED_EQ, flag, flag)], errno.EPERM)
        for flag in CLONE_NEW
    ],
}

if __name__ == "__main__":
    refuse(WITHOUT[sys.argv[1]])
    os.execv(sys.argv[2], sys.argv[2:])
