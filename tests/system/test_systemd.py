"""The installed units under a real systemd: started, watched, reloaded, activated by a socket.

systemd runs as the first process of namespaces of its own, with a /run and a /dev of its own, in a
control group that is made for it, and starts nothing but the units of the test. It must never see
the host's units, nor change its control groups or mounts.
"""

import os
import re
import shlex
import unittest

import harness
import proc
from harness import not_sanitized, workspace
from loghost import LogHost
from waiting import wait_for

SYSTEMD = "/lib/systemd/systemd"
USERS = "unix:passwd.byname"
ALICE = 1

# Until the namespaces: the control group is to be the root of the one that systemd sees.
ENTER = """
echo $$ > "$GROUP/cgroup.procs" && exec unshare -C -m -p -f -u -i -n sh "$0" "$@"
"""
SETTLE = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$DEV" /dev
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/systemd/journal
ln -s "$DEV/log" /run/systemd/journal/dev-log
cp -r "$UNITS"/. /run/systemd/system
export container=jailmap-check
exec "$@"
"""
TARGET = """[Unit]
DefaultDependencies=no
Wants=check.service {wants}
"""
CHECK = """[Unit]
DefaultDependencies=no
After={wants}
[Service]
Type=oneshot
ExecStart=/bin/sh {script}
StandardOutput=append:{out}
StandardError=append:{out}
ExecStopPost=/bin/systemctl exit --force --force
"""
# What every script has: a word for what it finds, and waiting for a command to succeed.
BEGIN = """
say() { echo "$*"; }
show() { systemctl show "$1" -p "$2" --value; }
soon() { n=0; until "$@"; do n=$((n + 1)); [ $n -lt 600 ] || { say "in vain: $*"; exit 1; }
    sleep 0.1; done; }
is() { [ "$(show "$1" "$2")" = "$3" ]; }
"""


def control_groups():
    """Where control groups of version 2 are mounted, or None."""
    for line in proc.read("/proc/self/mounts").splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1]
    return None


class SystemdTest(harness.Case):
    def setUp(self):
        super().setUp()
        if control_groups() is None:
            raise unittest.SkipTest(f"{harness.NOT_HERE}: no control groups of version 2")
        self.units = workspace().directory("units")
        self.syslog = LogHost()
        self.addCleanup(self.syslog.close)
        self.group = os.path.join(control_groups(), f"jailmap-check.{os.getpid()}")
        try:
            os.mkdir(self.group)
        except OSError as error:
            raise unittest.SkipTest(f"{harness.NOT_HERE}: control groups: {error}") from error
        self.addCleanup(self.remove_group)
        self.place = workspace().directory("private", 0o700, owner=(ALICE, ALICE))
        self.socket = os.path.join(self.place, "socket")
        self.out = self.path("out")
        harness.logs[self.out] = 0
        system = os.path.join(workspace().prefix, "lib/systemd/system")
        for name in ("jailmapd.service", "jailmapd.socket"):
            workspace().write(self.units, name, proc.read(os.path.join(system, name)))
        self.config = workspace().write(
            self.directory,
            "jailmapd.conf",
            "sandbox = strict\n"
            + harness.config_text(
                "/run/jailmap",
                tables=[USERS],
                listen={self.socket: {"owner": str(ALICE), "mode": "0666"}},
            ),
        )
        self.drop_in(
            "jailmapd.service",
            f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=\n"
            f"ExecStart={workspace().jailmapd} -f -c {self.config}\nWatchdogSec=10s\n"
            f"StandardOutput=append:{self.out}.log\nStandardError=append:{self.out}.log\n",
        )
        self.drop_in(
            "jailmapd.socket",
            "[Unit]\nDefaultDependencies=no\nConditionPathIsDirectory=\n"
            f"ConditionPathIsDirectory={self.place}\n"
            f"[Socket]\nListenStream=\nListenStream={self.socket}\n",
        )

    def drop_in(self, unit, text):
        place = os.path.join(self.units, unit + ".d")
        os.makedirs(place, exist_ok=True)
        workspace().write(place, "test.conf", text)

    def remove_group(self):
        """The kernel lets a control group go once the last process in it has."""

        def gone():
            harness.reap()
            for path, _, _ in os.walk(self.group, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    return False
            return True

        wait_for(gone, "systemd's control groups to be empty")

    def within(self, command):
        """Runs a command as the first process of the namespaces; returns (exit status, output)."""
        settle = workspace().write(self.directory, "settle", SETTLE)
        enter = workspace().write(
            self.directory, "enter", ENTER.replace('"$0"', shlex.quote(settle))
        )
        code, out, errors = harness.run(
            ["sh", enter, *command],
            env={
                "PATH": harness.PATH,
                "GROUP": self.group,
                "DEV": self.syslog.directory,
                "UNITS": self.units,
            },
        )
        return code, out + errors

    def boot(self, script, wants="jailmapd.service"):
        """Boots systemd with those units; returns what the script, which begins when they are
        there, printed."""
        code, out = self.within(["true"])
        if code != 0:
            raise unittest.SkipTest(f"systemd cannot have namespaces of its own here: {out}")
        path = workspace().write(self.directory, "script", BEGIN + script + "\nsay end\n")
        workspace().write(self.units, "check.target", TARGET.format(wants=wants))
        workspace().write(
            self.units, "check.service", CHECK.format(wants=wants, script=path, out=self.out)
        )
        code, console = self.within(
            [SYSTEMD, "--system", "--unit=check.target", "--log-target=syslog"]
        )
        found = proc.read(self.out) if os.path.exists(self.out) else ""
        self.assertEqual(found.splitlines()[-1:], ["end"], f"{found}\n{console}")
        return found.splitlines()[:-1]

    def query(self):
        return f"{workspace().jailmap} query -s {self.socket} {USERS} root"

    @not_sanitized("they have no filters but the daemon's own, and no memory that is code")
    def test_service(self):
        """Type=notify, all that the unit forbids, and every wall of the sandbox: it is ready, its
        watchdog is content, a reload is one, a daemon that hangs is replaced, and stop ends it."""
        found = self.boot(
            f"""
            say $(show jailmapd ActiveState) $(show jailmapd StatusText)
            pid=$(show jailmapd MainPID)
            {self.query()} | cut -d: -f1
            {workspace().jailmap} sandbox -d /run/jailmap | tail -1
            first=$(show jailmapd WatchdogTimestampMonotonic)
            changed() {{ [ "$(show jailmapd WatchdogTimestampMonotonic)" != $first ]; }}
            for n in 1 2 3; do soon changed; first=$(show jailmapd WatchdogTimestampMonotonic); done
            systemctl reload jailmapd; say reload $?
            is jailmapd MainPID $pid && is jailmapd NRestarts 0 && say the same
            kill -STOP $pid
            soon is jailmapd NRestarts 1; soon is jailmapd ActiveState active
            {self.query()} | cut -d: -f1
            systemctl stop jailmapd
            say $(show jailmapd ActiveState) $(show jailmapd Result) $(show jailmapd ExecMainStatus)
            [ -e {self.socket} ] || [ -e /run/jailmap ] || say nothing is left
            """
        )
        walls = found.pop(2)
        self.assertRegex(walls, r"^\d+ processes, nothing weaker than the design$")
        self.assertEqual(
            found,
            [
                "active tables: 1, listeners: 1",
                "root",
                "reload 0",
                "the same",
                "root",
                "inactive success 0",
                "nothing is left",
            ],
        )
        self.assertIn("SIGHUP", self.syslog.log())

    @not_sanitized("they have no filters but the daemon's own, and no memory that is code")
    def test_socket(self):
        """With the socket unit the first client starts the daemon, one that waits while it is
        stopped starts the next, and the end of the socket unit removes the socket."""
        found = self.boot(
            f"""
            say $(show jailmapd ActiveState) $(stat -c %U:%a {self.socket})
            {self.query()} | cut -d: -f1
            say $(show jailmapd ActiveState)
            systemctl -q stop jailmapd
            say $(show jailmapd ActiveState)
            {self.query()} | cut -d: -f1
            say $(show jailmapd ActiveState) $(show jailmapd NRestarts)
            systemctl stop jailmapd.socket jailmapd
            [ -e {self.socket} ] || say nothing is left
            """,
            wants="jailmapd.socket",
        )
        self.assertEqual(
            found,
            [
                "inactive root:666",
                "root",
                "active",
                "inactive",
                "root",
                "active 0",
                "nothing is left",
            ],
        )

    @not_sanitized("they have no filters but the daemon's own, and no memory that is code")
    def test_wrong_configuration(self):
        """What no restart mends is not tried again: a failed unit with the exit status."""
        text = proc.read(self.config)
        workspace().write(self.directory, "jailmapd.conf", re.sub("mode = 0666", "mode = 9", text))
        found = self.boot(
            "say $(show jailmapd ActiveState) $(show jailmapd ExecMainStatus) "
            "$(show jailmapd NRestarts)"
        )
        self.assertEqual(found, ["failed 78 0"])
