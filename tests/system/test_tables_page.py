"""The examples of jailmap_tables(5), run as they stand there: files, servers, configuration, and what
is asked and answered.

Runs as root inside tests/system/run. Paths, addresses and the password of a database are the test's
own; nothing else of an example is changed.
"""

import os
import re
import shlex
import sqlite3
import unittest

import harness
import servers
from harness import Workspace
from test_manual import source
from waiting import wait_for

PAGE = source("man5", "jailmap_tables.5")
MARK = re.compile(r'\.\\" example: (?P<table>\S+) (?P<part>\w+)(?: (?P<argument>\S+))?')
# What stands for what in a line of the page.
ESCAPES = {r"\e": "\\", r"\&": "", r"\(dq": '"', r"\(aq": "'", r"\-": "-"}
PLACES = ("/etc/postfix/", "/var/lib/mail/")
TRY_AGAIN = ": temporary failure: "


class Part:
    """One block of the page: file, sql, server, policy or session."""

    def __init__(self, kind, argument, text):
        self.kind, self.argument, self.text = kind, argument, text


def unescape(line):
    return re.sub(r"\\(?:e|&|\(dq|\(aq|-)", lambda found: ESCAPES[found[0]], line)


def examples():
    """{type: [Part]} in the order of the page."""
    found, lines = {}, iter(PAGE.splitlines())
    for line in lines:
        if not line.startswith('.\\" example: '):
            continue
        mark = MARK.fullmatch(line)
        begin = next(lines)
        if mark is None or not begin.startswith(".Bd -literal"):
            raise AssertionError(f"{line!r} and {begin!r} do not begin an example")
        text = "".join(unescape(one) + "\n" for one in iter(lambda: next(lines), ".Ed"))
        part = Part(mark["part"], mark["argument"], text)
        found.setdefault(mark["table"], []).append(part)
    return found


def table_types():
    """Each type, and each table of unix:, as the programs know them."""
    entries = re.findall(
        r'\.prefix = "([a-z]+):"(?:,\s*\.name = "([a-z.]+)")?', source("policy", "table_type.c")
    )
    return [f"{kind}:{name}" if name else kind for kind, name in entries]


def commands(session):
    """[(command, what it prints)]"""
    found = []
    for line in session.splitlines():
        if line.startswith("# "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [(command, "".join(line + "\n" for line in lines)) for command, lines in found]


def spoken(text):
    """{what a server is asked: what it says}"""
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())


class PageTest(unittest.TestCase):
    """The page and the types."""

    def test_complete(self):
        """Every table type has an example, with a configuration and a question."""
        self.assertGreater(len(table_types()), 20)
        self.assertEqual(sorted(examples()), sorted(table_types()))
        for table, parts in examples().items():
            kinds = [part.kind for part in parts]
            self.assertEqual(kinds[-2:], ["policy", "session"], table)
            self.assertLessEqual(set(kinds[:-2]), {"file", "sql", "server"}, table)
            policy, session = parts[-2:]
            self.assertIn(f'table "{table}', policy.text)
            self.assertIn("# jailmap query ", session.text)


class ExamplesTest(harness.Case):
    """jailmap_tables(5), example by example."""

    def setUp(self):
        super().setUp()
        self.own = {place: self.directory + "/" for place in PLACES}

    def here(self, text):
        """The same with this test's own paths, addresses and passwords."""
        for what, own in self.own.items():
            text = text.replace(what, own)
        return text

    # ---- what an example needs ----

    def serve(self, table, parts):
        """Starts the server of an example, if it has one."""
        asked = next((part.text for part in parts if part.kind == "server"), None)
        if table in ("mysql", "pgsql"):
            kind = servers.MariaDB if table == "mysql" else servers.PostgreSQL
            server = self.enterContext(kind())
            self.own["unix:/run/mysqld/mysqld.sock"] = self.own[
                "unix:/run/postgresql"
            ] = server.hosts
            self.own["password = secret"] = f"password = {servers.PASSWORD}"
            return server
        if asked is not None:
            kind = servers.Socketmap if table == "socketmap" else servers.TcpTable
            answers = {key.encode(): value.encode() for key, value in spoken(asked).items()}
            server = self.enterContext(kind(answers))
            for port in (10030, 10031):
                self.own[f"localhost:{port}"] = f"127.0.0.1:{server.port}"
            return server
        return None

    def prepare(self, parts, server):
        for part in parts:
            path = self.here(part.argument or "")
            if part.kind == "file":
                Workspace.write(*os.path.split(path), self.here(part.text), 0o600)
            elif part.kind == "sql" and path:
                database = sqlite3.connect(path)
                database.executescript(part.text)
                database.close()
                os.chmod(path, 0o600)
            elif part.kind == "sql":
                server.sql(part.text)

    def configured(self, policy):
        """A jailmapd with these lines, which root may ask for everything."""
        daemon = harness.Jailmapd("page")
        text = harness.config_text(daemon.runtime, listen={daemon.socket: {"mode": "0666"}})
        Workspace.write(daemon.directory, "jailmapd.conf", text + self.here(policy))
        self.addCleanup(daemon.stop)
        return daemon.start()

    # ---- what an example shows ----

    def ask(self, daemon, words, expected):
        """Asks until one of the answers comes; until then a table may not be there yet."""

        def answered():
            _, out, errors = daemon.query(*words)
            if out + errors in expected:
                return out + errors
            self.assertIn(TRY_AGAIN, errors, f"{words}: {out}")
            return None

        return wait_for(answered, f"{words} to print one of {expected}")

    def play(self, daemon, session):
        shown = commands(self.here(session.text))
        outputs = {output for _, output in shown}
        for command, output in shown:
            words = shlex.split(command)
            if words[0] == "postmap":
                kind, path = words[1].split(":")
                harness.postmap(kind, path)
                continue
            self.assertEqual(words[:2], ["jailmap", "query"])
            expected = outputs if session.argument == "any" else {output}
            self.ask(daemon, words[2:], expected)

    def run_example(self, table):
        parts = examples()[table]
        self.prepare(parts, self.serve(table, parts))
        policy = "".join(part.text for part in parts if part.kind == "policy")
        daemon = self.configured(policy)
        for session in (part for part in parts if part.kind == "session"):
            self.play(daemon, session)
        daemon.stop()


def example_test(table):
    def test(self):
        self.run_example(table)

    test.__doc__ = f"The example of {table} does what the page says."
    return test


for _table in examples():
    setattr(ExamplesTest, f"test_{re.sub('[^a-z]', '_', _table)}", example_test(_table))
