"""Every table type answers through jailmapd as Postfix's own postmap answers from the table itself.

The sources are awkward on purpose (type_cases.py), the databases are made by Debian's postmap in
all its ways, and each key is asked in all cases and foldings, in each way in which Postfix asks.
Both the raw protocol and the real client are compared. Differences that are meant are asserted
where they are stated, with their reasons, and nowhere else is anything allowed to differ.
"""

import dataclasses
import os
import re
import secrets
import unittest

import harness
import private_postfix
import proc
import type_cases
from harness import Workspace, workspace
from protocol import CONFIG, OK, NOKEY, RETRY, n_lookup, n_open, o_sequence, reply
from type_cases import BUILDS, INLINE, MODES, NOT_INLINE, NOT_STATIC, STATIC, fold, is_utf8
from waiting import wait_for

STORED = ("hash", "btree", "cdb", "lmdb")


def fold_utf8(key):
    return fold(key) if is_utf8(key) else key


def short(data):
    return repr(data[:60]) + (f" ({len(data)} bytes)" if len(data) > 60 else "")


# ------------------------------------------------------------------- the differences that are meant
# Each says why, and decides exactly which answers of which tables it is about.


@dataclasses.dataclass(frozen=True)
class Differing:
    """One key in one mode, and two answers that are not the same."""

    mode: str
    table: str
    key: bytes
    theirs: tuple
    ours: tuple
    postmap: dict  # mode -> key -> what postmap answers

    @property
    def text(self):
        """The table is searched by what a request says of its key. Postfix folds it, or not, when
        it reads the table for one client; jailmapd has it in all forms, for all clients."""
        return self.table.startswith(("texthash:", "inline:"))


def finds_folded(case):
    """A request of `postmap -f` looks like that of a client that has folded its key. So it finds a
    folded key also where the table has it in other letters: what Debian's proxymap loses."""
    return (
        case.text
        and MODES[case.mode].flags == 524353
        and not MODES[case.mode].folds
        and is_utf8(case.key)
        and fold(case.key) == case.key
        and case.theirs == (NOKEY, b"")
        and case.ours == case.postmap["default"][case.key]
    )


def prefers_folded(case):
    """For the same reason, of entries that differ only in case it gets what a client that folds
    gets, from postmap and from jailmapd: the first (texthash) or last (inline) of all."""
    return (
        case.text
        and MODES[case.mode].flags == 524353
        and not MODES[case.mode].folds
        and is_utf8(case.key)
        and fold(case.key) == case.key
        and case.theirs[0] == case.ours[0] == OK
        and case.ours == case.postmap["default"][case.key]
    )


def takes_utf8_only(case):
    """With smtputf8_enable = no, `postmap -f` sends what it sends with yes. jailmapd cannot tell,
    and answers as with yes: an entry that is not UTF-8 is not there."""
    return (
        case.text
        and case.mode == "without UTF-8 unfolded"
        and case.theirs[0] == OK
        and case.ours == case.postmap["unfolded"][case.key]
    )


DIFFERENCES = (finds_folded, prefers_folded, takes_utf8_only)


class AnswersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = workspace().directory("types")
        cls.postfix = type_cases.Reference()
        cls.tables = {kind: cls.make(kind) for kind in (*STORED, "texthash")}
        cls.tables["inline"] = [f"inline:{name}" for name in INLINE.values()]
        cls.tables["static"] = [f"static:{value}" for value in STATIC.values()]
        cls.broken = [f"inline:{name}" for name in NOT_INLINE]
        cls.broken += [f"static:{value}" for value in NOT_STATIC]
        cls.broken.append("texthash:" + cls.file("zero", b""))
        cls.naming = "texthash:" + cls.file(
            "naming", f"a {os.path.join(cls.directory, 'contents')}\n".encode()
        )
        cls.extra = {kind: cls.bad_value(kind) for kind in (*STORED, "texthash")}
        cls.jailmapd = harness.Jailmapd(
            "types",
            tables=[
                *(table for tables in cls.tables.values() for table in tables),
                *cls.extra.values(),
                cls.naming,
                *cls.broken,
            ],
            listen={cls.postfix.socket: {"mode": "0666"}},
        )
        cls.addClassCleanup(cls.jailmapd.stop)
        cls.jailmapd.start()

    @classmethod
    def file(cls, name, content):
        return Workspace.write(cls.directory, name, content)

    @classmethod
    def make(cls, kind):
        """The tables of a type: the awkward source in every build, or in two files."""
        text = type_cases.source(kind)
        if kind == "texthash":
            return [
                "texthash:" + cls.file("text", text),
                "texthash:" + cls.file("text-indented", b" indented first line\n" + text + b"\r\n"),
                "texthash:" + cls.file("text-comment", b"# only a comment"),
                "texthash:" + cls.file("text-continued", b"key\n \n#\n\tvalue\n"),
            ]
        tables = []
        for build, options in BUILDS.items():
            table = f"{kind}:" + cls.file(f"{kind}-{build}", text + b"\n" * len(tables))
            cls.postfix.build(table, *options)
            tables.append(table)
        return tables

    @classmethod
    def bad_value(cls, kind):
        """A table with a value that is not UTF-8, built so that it is stored."""
        table = f"{kind}:" + cls.file(f"{kind}-bad-value", type_cases.BAD_VALUE + b"\ngood value\n")
        if kind in STORED:
            cls.postfix.build(table, "-u")
        return table

    def compare(self, table, asked):
        """Asks for every key in every mode, over the protocol and with the real client; returns how
        many answers were compared, and which intended differences were seen."""
        seen, problems, count = set(), [], 0
        postmap = {name: self.postfix.answers(mode, table, asked) for name, mode in MODES.items()}
        with self.jailmapd.client() as client:
            self.assertEqual(client.open(table)[0], OK, table)
            for name, mode in MODES.items():
                found = mode.ask_all(client, table, asked)
                for key in asked:
                    theirs, ours = postmap[name][key], found[key]
                    count += 1
                    if theirs == ours:
                        continue
                    case = Differing(name, table, key, theirs, ours, postmap)
                    stated = [rule for rule in DIFFERENCES if rule(case)]
                    seen.update(stated)
                    if not stated:
                        problems.append(
                            f"{name}, {table[:80]}, key {short(key)}: "
                            f"postmap {theirs[0]} {short(theirs[1])}, "
                            f"jailmapd {ours[0]} {short(ours[1])}"
                        )
                # What the real client prints is what was found over the protocol, line by line.
                printed = self.postfix.output(mode, "proxy:" + table, asked)
                lines = [key + b"\t" + found[key][1] for key in asked if found[key][0] == OK]
                self.assertEqual(
                    printed.split(b"\n")[:-1], lines, f"{name}, proxy:{table[:80]}, real client"
                )
                count += len(asked)
        self.assertFalse(
            problems,
            f"{len(problems)} of {count} answers differ\n" + "\n".join(problems[:30]),
        )
        return count, seen

    def compare_all(self, kind, asked, least=1000):
        count, seen = 0, set()
        for table in self.tables[kind]:
            more, differences = self.compare(table, asked(table))
            count, seen = count + more, seen | differences
        self.assertGreater(count, least)
        return seen

    def stored(self, kind):
        # postmap ends when it asks lmdb for the empty key; that is a test of its own.
        asked = [key for key in type_cases.keys() if key or kind != "lmdb"]
        self.assertEqual(self.compare_all(kind, lambda _: asked, 100_000), set())

    def test_hash(self):
        """hash tables, built with each option of postmap: every answer is that of postmap."""
        self.stored("hash")

    def test_btree(self):
        """btree tables, built with each option of postmap: every answer is that of postmap."""
        self.stored("btree")

    def test_cdb(self):
        """cdb tables, built with each option of postmap: every answer is that of postmap."""
        self.stored("cdb")

    def test_lmdb(self):
        """lmdb tables, built with each option of postmap: every answer is that of postmap."""
        self.stored("lmdb")

    def test_texthash(self):
        """texthash files: every answer is that of postmap, but for the differences stated."""
        asked = [*type_cases.keys(), b"indented", b"first", b"line", b"value"]
        asked.sort(key=lambda key: (-len(key), key))
        self.assertEqual(self.compare_all("texthash", lambda _: asked, 10_000), set(DIFFERENCES))

    def test_inline(self):
        """inline tables: every answer is that of postmap, but for the differences stated."""

        def asked(table):
            return type_cases.keys(type_cases.inline_keys(table.partition(":")[2]))

        expected = {finds_folded, prefers_folded}  # for the third see inline_that_is_not_utf8
        self.assertEqual(self.compare_all("inline", asked, 10_000), expected)

    def test_static(self):
        """static tables: one answer for every key, also for the empty one."""
        asked = [key for key in type_cases.keys() if len(key) < 2000][::7] + [b""]
        self.assertEqual(self.compare_all("static", lambda _: asked, 10_000), set())

    def test_empty_key_in_lmdb(self):
        """The empty key ends postmap when the table is lmdb; jailmapd says that it is not there."""
        tables = self.tables["lmdb"]
        found = self.postfix.each([(MODES["default"], table, b"") for table in tables])
        self.assertEqual(found, [type_cases.BROKEN] * len(tables))
        for table in tables:
            with self.jailmapd.client() as client:
                for mode in MODES.values():
                    self.assertEqual(mode.ask(client, table, b""), (NOKEY, b""), table)

    def test_values_that_are_not_utf8(self):
        """A value that is not UTF-8 is passed on as it is, and a client that checks it fails as it
        fails without a server; a texthash line that is not UTF-8 is not there for such a client."""
        key, _, value = type_cases.BAD_VALUE.partition(b" ")
        cases = [(kind, name) for kind in self.extra for name in MODES]
        theirs = self.postfix.each([(MODES[name], self.extra[kind], key) for kind, name in cases])
        ours = self.postfix.each(
            [(MODES[name], "proxy:" + self.extra[kind], key) for kind, name in cases]
        )
        for (kind, name), left, right in zip(cases, theirs, ours):
            with self.subTest(kind=kind, mode=name), self.jailmapd.client() as client:
                if not MODES[name].checks:
                    expected = (OK, value)
                elif kind == "texthash":
                    expected = (NOKEY, b"")
                else:
                    expected = type_cases.BROKEN
                self.assertEqual(left, expected)
                if kind == "texthash" and name == "without UTF-8 unfolded":
                    expected = (NOKEY, b"")  # takes_utf8_only()
                self.assertEqual(right, expected)
                found = MODES[name].ask(client, self.extra[kind], b"good")
                self.assertEqual(found, (OK, b"value"))

    def test_inline_that_is_not_utf8(self):
        """Entries of an inline table that are not UTF-8, in the key or in the value."""
        names = [
            b"{good=value, caf\xe9=key, other=caf\xe9, UP\xc9=upper, {both\xe9 = \xe9}}",
            b"{caf\xe9=key}",
            b"{k=1, k=caf\xe9}",
            b"{K=caf\xe9, k=2}",
        ]
        asked = (
            b"good",
            b"caf\xe9",
            b"CAF\xe9",
            b"other",
            b"OTHER",
            b"up\xc9",
            b"UP\xc9",
            b"k",
            b"K",
        )
        tables = [b"inline:" + name for name in names]
        stated = {
            (tables[0], b"good"): (OK, b"value"),
            (tables[0], b"other"): (OK, b"caf\xe9"),
            (tables[2], b"k"): (OK, b"caf\xe9"),
            (tables[3], b"k"): (OK, b"2"),
        }
        daemon = harness.Jailmapd("types-bytes", text="")
        text = harness.config_text(
            daemon.runtime,
            tables=[f"TABLE{number}" for number in range(len(names))],
            listen={daemon.socket: {"mode": "0666"}},
        ).encode()
        for number, table in enumerate(tables):
            text = text.replace(b"TABLE%d" % number, table)
        Workspace.write(daemon.directory, "jailmapd.conf", text)
        cases = [(name, table, key) for table in tables for name in MODES for key in asked]
        theirs = self.postfix.each([(MODES[name], table, key) for name, table, key in cases])
        problems, seen = [], 0
        with daemon, daemon.client() as client:
            for (name, table, key), expected in zip(cases, theirs):
                mode = MODES[name]
                found = mode.ask(client, table, key)
                if mode.checks:
                    # Postfix refuses such a name as a whole where it checks, and takes it in its
                    # proxymap, which opens tables without a check. jailmapd is a proxymap.
                    self.assertEqual(expected, type_cases.BROKEN)
                    expected = stated.get((table, fold_utf8(key)), (NOKEY, b""))
                    if expected[0] == OK and not is_utf8(expected[1]):
                        expected = (CONFIG, b"")
                    if mode.folds or fold_utf8(key) == key:
                        seen += 1
                    else:
                        expected = found  # finds_folded() and prefers_folded(): see test_inline
                elif name == "without UTF-8 unfolded" and found != expected:
                    self.assertTrue(not is_utf8(key) or fold(key) == key)  # takes_utf8_only()
                    expected = found
                if found != expected:
                    problems.append(f"{name} {table} {key}: {expected} expected, is {found}")
        self.assertFalse(problems, "\n".join([f"{len(problems)} of {len(cases)}", *problems[:40]]))
        self.assertGreater(seen, 20)

    def test_names_that_are_none(self):
        """inline and static names that Postfix cannot read, and an empty texthash file, are
        temporary errors; the log says why, and the client of Postfix fails as it does by itself."""
        theirs = self.postfix.each([(MODES["default"], table, b"a") for table in self.broken])
        with self.jailmapd.client() as client:
            for table, expected in zip(self.broken, theirs):
                with self.subTest(table=table):
                    found = [mode.ask(client, table, b"a") for mode in MODES.values()]
                    self.assertEqual(found, [(RETRY, b"")] * len(MODES))
                    # Postfix takes an empty file as a table of no entries. Ours may be about to be
                    # written, and no user is to be unknown until then.
                    zero = table.endswith("/zero")
                    self.assertEqual(expected, (NOKEY, b"") if zero else type_cases.BROKEN)
        lines = re.findall(r'warning: table "(\w+):.*" failed: (.*)', self.jailmapd.log())
        self.assertEqual(len(lines), len(self.broken), lines)
        for kind, why in lines:
            self.assertRegex(why, {"texthash": "empty"}.get(kind, "expected|quote|must end"))

    def test_contents_of_files(self):
        """Asked for the contents of the files that a texthash names (postmap -F), the answer is a
        temporary error: no process opens a file that a table names."""
        contents = self.file("contents", b"the contents\n")
        self.assertEqual(
            self.postfix.postmap(True, "-F", "-q", "a", self.naming)[1], b"the contents\n\n"
        )
        with self.jailmapd.client() as client:
            self.assertEqual(client.lookup(self.naming, "a", 2621505), (RETRY, b""))
            self.assertEqual(client.lookup(self.naming, "a", 524353), (OK, contents.encode()))


class WalkTest(harness.Case):
    """sequence over each type."""

    # Duplicates, upper case and what is not ASCII, in an order that is nobody's.
    TEXT = "b 2\nUPPER u\na 1\nÉté s\na again\nupper low\n" + harness.entries(300)
    INLINE = "inline:{b=2, UPPER=u, a=1, Été=s, upper=low, " + ", ".join(
        f"key{number}=value{number}" for number in range(300)
    )
    FIRST, NEXT = 0, 1

    def step(self, client, table, function, flags=64):
        code, key, value = client.call(o_sequence(table, function, flags))
        return code, key, value

    def walk(self, client, table, limit=100_000):
        """Every entry, from the first to the end."""
        found, answer = [], self.step(client, table, self.FIRST)
        while answer[0] == OK:
            found.append(tuple(answer[1:]))
            self.assertLess(len(found), limit, "a walk that does not end")
            answer = self.step(client, table, self.NEXT)
        self.assertEqual(answer, (NOKEY, b"", b""))
        return found

    def pairs(self):
        """What a walk over TEXT yields where keys are stored as written."""
        lines = [line.encode().split(b" ", 1) for line in self.TEXT.splitlines()]
        return dict((key, value) for key, value in reversed(lines))

    def tables(self, *options):
        return [self.table(kind, self.TEXT, kind, *options) for kind in STORED]

    def texthash(self):
        return "texthash:" + Workspace.write(self.directory, "text", self.TEXT)

    def test_all_entries(self):
        """first and next yield every entry once, as written, in every type and after every option
        of postmap; then there is no more, and first begins again."""
        pairs = self.pairs()
        inline = self.INLINE + ", a=gone, a=1}"
        tables = [self.texthash(), inline, *self.tables("-f")]
        for option in ("-N", "-n"):
            for kind in STORED:
                tables.append(self.table(f"{kind}{option}", self.TEXT, kind, "-f", option))
        daemon = self.jailmapd(tables)
        client = self.client(daemon)
        for table in tables:
            with self.subTest(table=table[:80]):
                found = self.walk(client, table)
                self.assertEqual(len(found), len(pairs))
                self.assertEqual(dict(found), pairs)
                self.assertEqual(self.step(client, table, self.NEXT), (NOKEY, b"", b""))
                self.assertEqual(self.walk(client, table), found)
                if table.startswith(("texthash:", "inline:")):
                    order = [key for key, _ in found if key.startswith(b"key")]
                    self.assertEqual(order, [b"key%d" % number for number in range(300)])

    def test_folded_entries(self):
        """A database that postmap folded has folded keys only; flags of the walk change nothing."""
        tables = self.tables()
        daemon = self.jailmapd([*tables, self.texthash()])
        client = self.client(daemon)
        expected = {}
        for key, value in reversed(
            [line.encode().split(b" ", 1) for line in self.TEXT.splitlines()]
        ):
            expected[bytes(key).lower()] = value  # map_config is without UTF-8: ASCII only
        for table in tables:
            self.assertEqual(dict(self.walk(client, table)), expected, table)
        for flags in (0, 64, 524353, 540737, 16449):
            self.assertEqual(
                self.step(client, self.texthash(), self.FIRST, flags), (OK, b"b", b"2"), flags
            )

    def test_cdb_with_duplicates(self):
        """A cdb that postmap -w made holds both of two equal keys: a walk yields what is stored, a
        lookup the first."""
        table = self.table("twice", "key one\nkey two\nb 1\n", "cdb", "-w")
        client = self.client(self.jailmapd([table]))
        self.assertEqual(
            self.walk(client, table), [(b"key", b"one"), (b"key", b"two"), (b"b", b"1")]
        )
        self.assertEqual(client.lookup(table, "key"), (OK, b"one"))

    def test_no_walk(self):
        """static has no entries to walk over: a temporary error, and the client may go on."""
        daemon = self.jailmapd(["static:value"])
        client = self.client(daemon)
        for function in (self.FIRST, self.NEXT):
            self.assertEqual(self.step(client, "static:value", function), (RETRY, b"", b""))
        self.assertEqual(client.lookup("static:value", "key"), (OK, b"value"))

    def test_next_without_first(self):
        """next on a new connection is the first entry."""
        tables = [*self.tables("-f"), self.texthash(), self.INLINE + "}"]
        daemon = self.jailmapd(tables)
        for table in tables:
            first = self.walk(self.client(daemon), table)
            client = self.client(daemon)
            self.assertEqual(self.step(client, table, self.NEXT), (OK, *first[0]), table[:80])
            self.assertEqual(self.step(client, table, self.NEXT), (OK, *first[1]), table[:80])

    def test_concurrent_walks(self):
        """Walks of several connections, and of one connection over several tables, do not disturb
        each other, and lookups in between do not either."""
        tables = [*self.tables("-f"), self.texthash(), self.INLINE + "}"]
        daemon = self.jailmapd(tables)
        whole = {table: self.walk(self.client(daemon), table) for table in tables}
        walks = [(self.client(daemon), table, []) for table in tables for _ in range(2)]
        shared = self.client(daemon)
        walks += [(shared, table, []) for table in tables]
        for client, table, found in walks:
            found.append(self.step(client, table, self.FIRST)[1:])
        for number in range(1, len(whole[tables[0]]) + 3):
            for index, (client, table, found) in enumerate(walks):
                if number % (index % 3 + 1) == 0:  # Each at its own pace.
                    code, *entry = self.step(client, table, self.NEXT)
                    if code == OK:
                        found.append(tuple(entry))
                if (number + index) % 7 == 0:
                    self.assertEqual(client.lookup(table, "key7"), (OK, b"value7"))
        for index, (_, table, found) in enumerate(walks):
            self.assertEqual(found, whole[table][: len(found)], table[:80])
            if index % 3 == 0:
                self.assertEqual(len(found), len(whole[table]))

    def test_reload_in_the_middle(self):
        """A walk over a table that is replaced meanwhile ends with a temporary error, never with
        entries of both; first begins with the new one."""
        kinds = (*STORED, "texthash")
        tables = {kind: f"{kind}:{self.path(kind)}" for kind in kinds}

        def write(value):
            text = harness.entries(2000, value=value)
            for kind, table in tables.items():
                if kind == "texthash":
                    os.rename(Workspace.write(self.directory, "new", text), self.path("texthash"))
                else:
                    self.table(kind, text, kind)

        write("old")
        daemon = self.jailmapd(tables.values())
        clients = {kind: self.client(daemon) for kind in kinds}
        for kind, client in clients.items():
            for number in range(10):
                answer = self.step(client, tables[kind], self.NEXT if number else self.FIRST)
                self.assertRegex(answer[2], b"^old", kind)
        write("new")
        other = self.client(daemon)
        for kind, client in clients.items():
            table = tables[kind]
            wait_for(
                lambda: other.lookup(table, "key1")[1] == b"new1", f"{table} to be loaded again"
            )
            for _ in range(3):
                self.assertEqual(self.step(client, table, self.NEXT), (RETRY, b"", b""), kind)
            found = self.walk(client, table)
            self.assertEqual(len(found), 2000, kind)
            self.assertTrue(all(value.startswith(b"new") for _, value in found), kind)


class ExistenceTest(harness.Case):
    """reveal = existence for each type."""

    def images(self, pid):
        """What the images that a process has mapped hold."""
        folder = f"/proc/{pid}/map_files"
        paths = [os.path.join(folder, name) for name in os.listdir(folder)]
        parts = [proc.read(path, "rb") for path in paths if os.readlink(path).startswith("/memfd:")]
        self.assertTrue(parts)
        return b"".join(parts)

    def test_existence(self):
        """The value of every key is the key, in lookups and walks; no value is in the worker."""
        words = {kind: f"secret-{secrets.token_hex(12)}" for kind in (*STORED, "texthash")}
        tables = []
        for kind, word in words.items():
            text = f"key {word}\nUPPER {word}\nété {word}\n"
            if kind == "texthash":
                tables.append("texthash:" + Workspace.write(self.directory, kind, text))
            else:
                tables.append(self.table(kind, text, kind))
        words["inline"] = f"secret-{secrets.token_hex(12)}"
        tables.append(f"inline:{{key={words['inline']}, UPPER={words['inline']}, {{été = x}}}}")
        daemon = self.jailmapd([(table, {"reveal": "existence"}) for table in tables])
        client = self.client(daemon)
        for table in tables:
            with self.subTest(table=table):
                text = table.startswith(("texthash:", "inline:"))
                for mode in MODES.values():
                    self.assertEqual(mode.ask(client, table, b"key"), (OK, b"key"))
                    self.assertEqual(mode.ask(client, table, "été".encode()), (OK, "été".encode()))
                    self.assertEqual(mode.ask(client, table, b"absent"), (NOKEY, b""))
                self.assertEqual(MODES["default"].ask(client, table, b"Upper"), (OK, b"upper"))
                code, first, value = client.call(o_sequence(table, 0))
                self.assertEqual((code, first), (OK, value))
                if text:
                    self.assertEqual(MODES["unfolded"].ask(client, table, b"UPPER"), (OK, b"UPPER"))
        (worker,) = daemon.wait_roles("worker")
        memory, images = proc.memory(worker), self.images(worker)
        self.assertIn(b"UPPER", images, "the way of looking works")
        for kind, word in words.items():
            self.assertNotIn(word.encode(), images, kind)
            if kind != "inline":  # Its name, which the client has sent, is the table.
                self.assertNotIn(word.encode(), memory, kind)

    def test_values_can_be_seen(self):
        """The way of looking finds the values of tables that reveal them."""
        word = "open-" + secrets.token_hex(12)
        table = "texthash:" + Workspace.write(self.directory, "text", f"key {word}\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, word.encode()))
        (worker,) = daemon.wait_roles("worker")
        self.assertIn(word.encode(), self.images(worker))
        self.assertIn(word.encode(), proc.memory(worker))

    def test_existence_of_static(self):
        """A static table that reveals existence only is an error of the configuration: it would
        hide nothing."""
        daemon = self.jailmapd([("static:value", {"reveal": "existence"})], start=False)
        code, _, errors = harness.run([workspace().jailmapd, "-n", "-c", daemon.config])
        self.assertNotEqual(code, 0)
        self.assertRegex(errors, r"jailmapd\.conf.*\d+.*existence.*static")


class NewDialectTest(harness.Case):
    """The types in the dialect of Postfix 3.11 and later."""

    # open with 0 and with 540736, which is what smtpd sends: the bits of the type are added, and
    # UTF8_ACTIVE is not, because the client is to fold.
    FLAGS = {
        "hash": (28, 540764),
        "btree": (28, 540764),
        "cdb": (28, 540764),
        "lmdb": (262172, 802908),
        "texthash": (16, 540752),
        "inline": (16, 540752),
        "static": (16, 540752),
    }

    def test_new_dialect(self):
        """open replies, and lookup replies with the bit cleared that the stored form rules out."""
        tables = {kind: self.table(kind, "key value\n", kind) for kind in STORED}
        tables["texthash"] = "texthash:" + Workspace.write(self.directory, "text", "key value\n")
        tables["inline"], tables["static"] = "inline:{key=value}", "static:value"
        client = self.client(self.jailmapd(tables.values()))
        for kind, table in tables.items():
            for instance, opened in zip((0, 540736), self.FLAGS[kind]):
                answer = client.ask(n_open(table, instance))
                self.assertEqual(answer, reply("status", OK, "flags", opened), kind)
                sent = 524288 | opened & ~16384  # As the client goes on: folded by itself.
                known = sent & ~{"cdb": 8, "texthash": 0, "inline": 0, "static": 0}.get(kind, 4)
                answer = client.ask(n_lookup(table, "key", instance, sent))
                self.assertEqual(
                    answer, reply("status", OK, "flags", known, "value", "value"), kind
                )
                answer = client.ask(n_lookup(table, "absent", instance, sent))
                expected = (
                    reply("status", OK, "flags", sent, "value", "value")
                    if kind == "static"
                    else reply("status", NOKEY, "flags", sent, "value", "")
                )
                self.assertEqual(answer, expected, kind)


class SmtpTest(unittest.TestCase):
    """The types in a chrooted smtpd of a private Postfix."""

    SERVICES = [
        "127.0.0.1:{port0} inet n - y - - smtpd",
        "127.0.0.1:{port1} inet n - y - - smtpd -o { smtpd_recipient_restrictions = STATIC }",
        "cleanup unix n - n - 0 cleanup",
        "rewrite unix - - n - - trivial-rewrite",
        "anvil unix - - n - 1 anvil",
    ]

    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(lambda: [part.stop() for part in (cls.postfix, cls.jailmapd) if part])
        cls.postfix = cls.jailmapd = None
        directory = workspace().directory("types-postfix")
        virtual, access = [], []
        for kind in ("texthash", "cdb", "lmdb"):
            for what, tables, value in (("user", virtual, "root@mx.test"), ("stop", access, "")):
                value = value or f"REJECT {kind} says no"
                text = f"{what}-{kind}@v.test {value}\n{what}-É{kind}@v.test {value}\n"
                path = os.path.join(directory, f"{what}-{kind}")
                Workspace.write(directory, f"{what}-{kind}", text)
                if kind != "texthash":
                    harness.postmap(kind, path)
                tables.append(f"{kind}:{path}")
        virtual.append("inline:{user-inline@v.test=root@mx.test, {User-Two@V.test = root@mx.test}}")
        access.append("inline:{{stop-inline@v.test = REJECT inline says no}, ok@v.test=DUNNO}")
        cls.static = "static:{REJECT static says no}"
        names = ["static:v.test", *virtual, *access, cls.static]
        reject = "reject_unauth_destination"
        cls.postfix = private_postfix.Postfix(
            "types-postfix",
            {
                "proxymap_service_name": "jailmap",
                "mydestination": "mx.test",
                "local_recipient_maps": "",
                "virtual_alias_domains": "v.test",
                "virtual_alias_maps": " ".join("proxy:" + table for table in virtual),
                "smtpd_relay_restrictions": reject,
                "smtpd_recipient_restrictions": ", ".join(
                    "check_recipient_access proxy:" + table for table in access
                ),
                "smtpd_error_sleep_time": "0",
                "smtpd_soft_error_limit": "1000",
                "smtpd_hard_error_limit": "1000",
            },
            [
                line.replace("STATIC", "check_recipient_access proxy:" + cls.static)
                for line in cls.SERVICES
            ],
        )
        cls.jailmapd = harness.Jailmapd(
            "types-postfix-jailmapd",
            tables=names,
            allow={"postfix": names, "root": names},
            listen={
                cls.postfix.private("jailmap"): {
                    "owner": "postfix",
                    "group": "postfix",
                    "mode": "0666",
                }
            },
        )
        cls.jailmapd.start()
        cls.postfix.start()

    def session(self, number=0):
        session = private_postfix.Smtp(self.postfix.ports[number])
        self.addCleanup(session.close)
        return session

    def test_recipients(self):
        """Virtual aliases in texthash, cdb, lmdb and inline tables are accepted, in any case, and
        what no table has is refused."""
        session = self.session()
        for name in ("user-texthash", "USER-cdb", "user-lmdb", "User-Inline", "user-two"):
            self.assertRegex(session.recipient(f"{name}@v.test"), r"^250 2\.1\.5 ", name)
        for name in ("user-hash", "user-texthas", "user-inline2", "x"):
            self.assertRegex(
                session.recipient(f"{name}@v.test"), r"^550 5\.1\.1 .*virtual alias table", name
            )
        self.assertNotRegex(self.postfix.log(), r"(warning|error|fatal|panic): (?!.*chroot)")

    def test_access(self):
        """check_recipient_access with each type refuses with the text that the table has."""
        session = self.session()
        for kind in ("texthash", "cdb", "lmdb", "inline"):
            self.assertRegex(
                session.recipient(f"Stop-{kind}@v.test"), rf"^554 5\.7\.1 .*{kind} says no"
            )
        other = self.session(1)
        for name in ("user-cdb", "nobody"):
            self.assertRegex(other.recipient(f"{name}@v.test"), r"^554 5\.7\.1 .*static says no")

    def test_smtpd_is_chrooted(self):
        """The smtpd that got these answers has the queue directory as its root."""
        session = self.session()
        self.assertRegex(session.recipient("user-cdb@v.test"), r"^250 ")
        for pid in self.postfix.daemons("smtpd"):
            wait_for(
                lambda: os.readlink(f"/proc/{pid}/root") == self.postfix.queue,
                "smtpd to be in its jail",
            )
