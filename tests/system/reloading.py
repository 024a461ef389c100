"""What the tests of reloading share: clients that ask all the time, the rule by which a history of
answers is right, what `jailmap status` says, and what the monitor watches.

Runs as root inside tests/system/run. It may write below the private directory of the run and start
threads that end with their test. It must never decide by the time something takes.
"""

import contextlib
import fcntl
import json
import re
import threading
import time

import harness
import proc
from harness import Workspace
from protocol import OK, o_lookup
from waiting import LIMIT, wait_for

# No UTF-8 layer and no folding: the bytes of a table as they are.
PLAIN = 64
# Between two rounds of a Reader. A pace, not a wait: nothing depends on it.
PAUSE = 0.005


def steady(client, expected):
    """Looks each (table, key) of `expected` up, and says what the first wrong answer was."""
    for (table, key), answer in expected:
        found = client.lookup(table, key, PLAIN)
        if found != answer:
            return f"{key} in {table} is {found}, not {answer}"
    return None


def batch(client, table, keys):
    """(status, value) of each key, asked in one go."""
    client.send(b"".join(o_lookup(table, key, PLAIN) for key in keys))
    answers = []
    for _ in keys:
        parts = client.receive().split(b"\0")
        answers.append((int(parts[1]), parts[3]))
    return answers


class Reader(threading.Thread):
    """A client on one connection that asks until it is told to stop, and never connects again: a
    closed connection is a wrong answer too.

    ask(client) looks something up and returns what is wrong with the answer, or None.
    """

    def __init__(self, daemon, ask):
        super().__init__(daemon=True)
        self.server, self.ask = daemon, ask
        self.rounds, self.problem, self.stopping = 0, None, False
        self.start()

    def run(self):
        try:
            with self.server.client() as client:
                while not self.stopping and self.problem is None:
                    self.problem = self.ask(client)
                    self.rounds += 1
                    # Leaves the processor to those whose work is under test.
                    time.sleep(PAUSE)
        except BaseException as error:  # a test must see it, whatever it is
            self.problem = repr(error)

    def finish(self):
        self.stopping = True
        self.join(LIMIT)
        return self.problem


class History:
    """The rule for the answers of a table in which every key has the number of the version as its
    value, served by one worker.

    A lookup may return version v if (1) no lookup of any key that ended before this one began had
    returned a later version, and (2) the writer of v had begun before this lookup ended. So answers
    never go back in time, never come from the future, and two keys are never of different versions
    of one image, since then one of two lookups, one after the other, would go back.
    """

    def __init__(self):
        self.begun = 0
        self.highest = 0
        self.seen = set()
        self.lock = threading.Lock()

    def writing(self, version):
        """To be called before the writer of a version begins."""
        self.begun = version

    def asking(self):
        """To be called before a lookup is sent; answered() wants what it returns."""
        with self.lock:
            return self.highest

    def answered(self, floor, key, answer):
        """To be called when the answer came; returns what is wrong with it, or None."""
        code, value = answer
        if code != OK or not value.isdigit():
            return f"{key} is {answer}, which no version has"
        version = int(value)
        with self.lock:
            self.highest = max(self.highest, version)
            self.seen.add(version)
            begun = self.begun
        if version < floor:
            return f"{key} is of version {version} after {floor} had been seen"
        if version > begun:
            return f"{key} is of version {version} before its writer began; it is at {begun}"
        return None

    def asker(self, table, keys):
        """An ask() for Reader: each key by itself, and then all of them in one go."""

        def ask(client):
            for key in keys:
                floor = self.asking()
                problem = self.answered(floor, key, client.lookup(table, key, PLAIN))
                if problem:
                    return problem
            floor = self.asking()
            for key, answer in zip(keys, batch(client, table, keys)):
                problem = self.answered(floor, key, answer)
                if problem:
                    return problem
                # The next answer of the same connection comes after this one.
                floor = max(floor, int(answer[1]))
            return None

        return ask


class Row:
    """One table of `jailmap status`."""

    def __init__(self, facts):
        self.table, self.state, self.since = facts["name"], facts["state"], facts["since"]
        self.generation, self.entries = facts["generation"] or 0, facts["entries"]
        self.why = facts["why"]
        self.rest = facts["answered-by"]


def status(daemon):
    """(exit status, {table: Row}) of `jailmap status` for a daemon."""
    code, out, errors = daemon.status("--json")
    if code not in (0, 1):
        raise AssertionError(f"jailmap status ended with {code}: {out!r} {errors!r}")
    rows = [Row(facts) for facts in json.loads(out)["tables"]]
    # In the order of the configuration.
    names = re.findall(r'^table "(.*)" \{', proc.read(daemon.config), re.M)
    if names != [row.table for row in rows]:
        raise AssertionError(f"jailmap status has not the tables {names}:\n{out}")
    return code, dict(zip(names, rows))


def watched_inodes(pid):
    """Inode numbers of everything that a process watches by inotify."""
    found = set()
    for fd, link in proc.descriptors(pid).items():
        if link == "anon_inode:inotify":
            with contextlib.suppress(FileNotFoundError):
                text = proc.read(f"/proc/{pid}/fdinfo/{fd}")
                found |= {
                    int(number, 16) for number in re.findall(r"^inotify .*ino:(\w+)", text, re.M)
                }
    return found


def rewrite(path, data):
    """Overwrites a file as an editor does that keeps it: truncate, then write."""
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data.encode())


def versioned(keys, version):
    """The source text of a table for History."""
    return "".join(f"{key} {version}\n" for key in keys)


class ReloadCase(harness.Case):
    """A test of tables that change."""

    def text_table(self, name, text):
        """A texthash table in this test's directory."""
        return "texthash:" + Workspace.write(self.directory, name, text)

    def reader(self, daemon, ask):
        reader = Reader(daemon, ask)
        self.addCleanup(reader.finish)
        return reader

    def loaded(self, daemon, table, since=0, how="loaded|reloaded|recovered"):
        """Waits until a table is loaded; returns (entries, generation)."""
        match = daemon.wait_log(
            rf'table "{re.escape(table)}" (?:{how}): (\d+) entries, generation (\d+)', since=since
        )
        return int(match.group(1)), int(match.group(2))

    def refused(self, daemon, table, reason="", since=0):
        """Waits for the line that says why a table is not loaded; returns the reason, without the
        consequence."""
        match = daemon.wait_log(
            rf'warning: table "{re.escape(table)}" (?:not reloaded|failed): '
            rf"(.*(?:{reason}).*); (?:the image of generation \d+ stays in service|"
            r"lookups get a temporary error until it loads)$",
            since=since,
        )
        return match.group(1)

    def generations(self, daemon, table, since=0):
        """The generations of a table that the log tells of."""
        return [
            int(number)
            for number in re.findall(
                rf'table "{re.escape(table)}" \w+: \d+ entries, generation (\d+)',
                daemon.log(since),
            )
        ]

    def wait_status(self, daemon, code, states):
        """The rows of `jailmap status` once each table has the state that `states` names for it,
        and the number of generations that the log tells of; the exit status is then `code`. The
        monitor writes what it knows a moment after the log."""

        def look():
            found, rows = status(daemon)
            if {table: row.state for table, row in rows.items()} != states or any(
                row.generation != max(self.generations(daemon, table), default=0)
                for table, row in rows.items()
            ):
                return None
            self.assertEqual(found, code)
            return rows

        def now():
            return str({table: vars(row) for table, row in status(daemon)[1].items()})

        return wait_for(look, lambda: f"jailmap status to be {states}; it is {now()}")

    def lock_records(self, path):
        """Holds the lock that postmap holds on an LMDB file while it writes."""
        file = open(path, "r+b")
        self.addCleanup(file.close)
        fcntl.lockf(file, fcntl.LOCK_EX)
        return file
