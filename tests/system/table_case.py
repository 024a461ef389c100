"""What the tests of tables that take time share: files put in place at once, many clients in one
thread, and what the log says of a table.

Used inside tests/system/run, as root. It must never decide by the time something takes.
"""

import os
import re
import select
import signal

import harness
import proc
from asker import Asker
from harness import Workspace, workspace
from protocol import OK, RETRY, o_lookup
from waiting import wait_for

FAST = "inline:{fast=yes}"


class TableCase(harness.Case):
    """A test of tables that agents or workers answer."""

    def put(self, name, text, mode=0o644):
        """A file in this test's directory, new or instead of the one that is there, put into its
        place at once; returns its path."""
        Workspace.write(self.directory, name + ".new", text, mode)
        os.rename(self.path(name + ".new"), self.path(name))
        return self.path(name)

    def clients(self, daemon, count):
        return [self.client(daemon) for _ in range(count)]

    def send_all(self, clients, table, keys, flags=64):
        """Each client asks for one key; those of `keys` in turn."""
        for number, client in enumerate(clients):
            client.send(o_lookup(table, keys[number % len(keys)], flags))

    def receive_all(self, clients):
        """(status, value) of each client's next answer."""
        found = []
        for client in clients:
            code, value = client.receive().split(b"\0")[1:-2:2]
            found.append((int(code), value))
        return found

    def ask_all(self, clients, table, keys, flags=64):
        """All clients ask at the same time; returns their answers."""
        self.send_all(clients, table, keys, flags)
        return self.receive_all(clients)

    def answered(self, clients):
        """How many of these clients have something to read now."""
        return len(select.select([client.socket for client in clients], [], [], 0)[0])

    def settle(self, clients, table, expected, before=()):
        """Asks with all clients at once until all answers are right; until then they may also be
        temporary errors, or what stands in `before`, and nothing else. expected: {key: value}, of
        keys that exist."""
        keys = list(expected)
        right = [(OK, expected[keys[number % len(keys)]]) for number in range(len(clients))]

        def all_right():
            found = self.ask_all(clients, table, keys)
            for one, other in zip(found, right):
                self.assertIn(one, (other, (RETRY, b""), *before))
            return found == right

        wait_for(all_right, f"all answers of {table} to be right")

    def fails(self, client, table, key, before=None):
        """Waits for a temporary error; until then the answer may be `before`, and nothing else."""

        def failing():
            found = client.lookup(table, key, 64)
            self.assertIn(found, ((RETRY, b""), before))
            return found[0] == RETRY

        wait_for(failing, f"{table} to fail")

    def lines(self, daemon, table, word, since=0):
        """Lines of the log that say that word of a table."""
        pattern = rf'^.*table "{re.escape(table)}"[^\n]*\b{word}\b.*$'
        return re.findall(pattern, daemon.log(since), re.M)

    def once(self, daemon, table, since):
        """Since then the log says once that the table fails, and then once that it works again.
        (What it says before was on its way when the test came to `since`.)"""
        name = re.escape(table)

        def rest():
            """The log from the first line on that says that it fails."""
            log = daemon.log(since)
            found = re.search(rf'table "{name}"[^\n]*\bfailed\b', log)
            return log[found.start() :] if found else ""

        ending = rf'^.*table "{name}" (?:recovered|reloaded|loaded).*$'
        wait_for(lambda: re.search(ending, rest(), re.M), f"{table} to be told of again")
        failed = self.lines(daemon, table, "failed", since)
        self.assertEqual(len(failed), 1, failed)
        ended = re.findall(ending, rest(), re.M)
        self.assertEqual(len(ended), 1, ended)

    def pause(self, pid):
        """Stops a process, and returns when it has stopped."""
        harness.kill(pid, signal.SIGSTOP)
        wait_for(lambda: (proc.stat_fields(pid) or "X")[0] in "TX", f"pid {pid} to stop")
        self.addCleanup(self.let_go, pid)

    @staticmethod
    def let_go(pid):
        if pid in proc.descendants(os.getpid()):
            harness.kill(pid, signal.SIGCONT)

    def asker(self, daemon, expected):
        asker = Asker(daemon, expected)
        self.addCleanup(asker.finish)
        return asker

    def pool(self, daemon, role, count):
        """Pids of all agents of the one table with such agents."""
        return wait_for(
            lambda: (lambda pids: pids if len(pids) == count else None)(daemon.roles()[role]),
            lambda: f"{count} {role} processes, not {daemon.roles()[role]}",
        )

    def everyone(self, daemon):
        """pid -> program of every process of a daemon."""
        found = {pid: proc.program(pid) for pid in [daemon.pid, *proc.descendants(daemon.pid)]}
        return {pid: name for pid, name in found.items() if name}

    def socket_directory(self):
        """Where servers of the test may have UNIX sockets that helpers reach."""
        return workspace().directory("sockets")
