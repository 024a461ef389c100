"""What is sent to Debian's proxymap and to jailmapd: table files, byte sequences, and the
differences that are meant.

A case is a name and a list of parts: bytes to send, READ, EOF. The functions here only make them;
test_differential.py sends them.
"""

import grp
import itertools
import os
import pwd
import random
import socket

import harness
import protocol
from harness import postmap, workspace
from protocol import (
    OK,
    NOKEY,
    RETRY,
    BAD,
    attributes,
    o_open,
    o_lookup,
    o_update,
    o_delete,
    o_sequence,
    n_open,
    n_lookup,
    reply,
)


# Flags that real clients send (names as in the protocol: what the request asks for).
REAL_FLAGS = (0, 64, 524352, 526400, 524353, 16449, 2621505, 540736, 542784, 65, 16448)
UTF8 = 524288
FOLD = 16384

EOF = object()  # In a list of parts: half-close the connection and read to the end.
READ = object()  # In a list of parts: read one reply before going on.

HUNG = b"<no answer to the next request>"

BINARY_KEYS = [bytes([first]) + b"key" for first in range(1, 256)] + [
    bytes(range(1, 256)),
    b"two\nlines",
    b"tab\there",
    b" blank ",
    b"a:b",
    b"\xc3\xa9t\xc3\xa9",
]
LONG_KEY = b"Subject: " + b"x" * (128 * 1024)
HEADER_KEY = b"Received: from a (b)\n\tby c with ESMTP id 1\n\tfor <d@e>; now"
BIG_VALUE = b"v" * 3_000_000


class Tables:
    """The table files that both servers read, by the name that a request uses."""

    def __init__(self):
        self.directory = directory = workspace().directory("tables")

        def name(kind, file):
            return f"{kind}:{os.path.join(directory, file)}"

        def make(kind, file, text, *options, tool="postmap"):
            postmap(kind, os.path.join(directory, file), text, *options, tool=tool)
            return name(kind, file)

        small = (
            "alice alice@example.org\nbob bob@example.org, carol@example.org\n\\back slash\n"
            '"quoted key" quoted\nx 1\nalice@example.com two words\n'
            "@example.com catch-all\nkey=eq eq\n"
            "\xc3\xa9t\xc3\xa9 summer\n".encode("latin-1").decode("utf-8")
        )
        self.plain = make("hash", "plain", small)
        self.tree = make("btree", "tree", small)
        self.nul = [make(kind, kind + "-nul", small, "-N") for kind in ("hash", "btree")]
        self.bare = [make(kind, kind + "-bare", small, "-n") for kind in ("hash", "btree")]
        # Keys as written: an upper-case key can be found only by a request that does not fold.
        self.mixed = [
            make(kind, kind + "-mixed", "UPPER u\nlower l\nMixed m\nmixed n\n", "-f")
            for kind in ("hash", "btree")
        ]
        self.aliases = make(
            "hash", "aliases", "webmaster: root\nPostmaster: alice, bob\n", tool="postalias"
        )
        self.large = [
            make(kind, kind + "-large", harness.entries(500)) for kind in ("hash", "btree")
        ]
        self.empty = [make(kind, kind + "-empty", "") for kind in ("hash", "btree")]
        self.probe = make("hash", "probe", "the-probe the-answer-to-the-probe\n")
        self.missing = [name(kind, "missing") for kind in ("hash", "btree")]
        self.garbage = name("hash", "garbage")
        workspace().write(directory, "garbage.db", b"this is no database\n" * 1000)
        self.wrong = name("btree", "wrong")
        make("hash", "wrong", small)
        self.cut = name("hash", "cut")
        make("hash", "cut", harness.entries(2000))
        os.truncate(os.path.join(directory, "cut.db"), 100)
        # Only the write service can store these keys and values; fill() does.
        self.binary = [make(kind, kind + "-binary", "") for kind in ("hash", "btree")]
        self.private = make(
            "hash", "private", "secret not for you\n"
        )  # exists, but no policy names it
        self.users, self.groups = "unix:passwd.byname", "unix:group.byname"
        text = workspace().write(directory, "text", small + "UPPER u\nMixed m\n")
        self.typed = [
            make("cdb", "cdb-plain", small),
            make("cdb", "cdb-nul", small, "-N"),
            make("cdb", "cdb-mixed", "UPPER u\nlower l\nMixed m\nmixed n\n", "-f"),
            make("lmdb", "lmdb-plain", small),
            make("lmdb", "lmdb-bare", small, "-n"),
            make("lmdb", "lmdb-mixed", "UPPER u\nlower l\nMixed m\nmixed n\n", "-f"),
            f"texthash:{text}",
            "inline:{alice=alice@example.org, {bob = two words}, UPPER=u, x=1, x=2, none=}",
            "static:{ two words }",
        ]
        self.text_twice, self.text_zero, self.text_files = (
            "texthash:" + workspace().write(directory, file, content)
            for file, content in (
                ("twice", "a first\nb only\na second\n"),
                ("zero", ""),
                ("files", "a " + workspace().write(directory, "contents", "contents\n") + "\n"),
            )
        )
        self.typed_failing = [
            name("cdb", "missing"),
            name("lmdb", "missing"),
            name("texthash", "missing"),
            "inline:{a}",
            "static:{a}b",
        ]
        self.good = [
            self.plain,
            self.tree,
            *self.nul,
            *self.bare,
            *self.mixed,
            self.aliases,
            *self.large,
            *self.empty,
            *self.binary,
        ]
        self.failing = [*self.missing, self.garbage, self.wrong, self.cut]
        self.approved = [
            *self.good,
            *self.failing,
            self.probe,
            self.users,
            self.groups,
            *self.typed,
            *self.typed_failing,
            self.text_twice,
            self.text_zero,
            self.text_files,
        ]

    def fill(self, socket):
        """Stores odd keys and values through proxywrite, which then has to give the files up."""
        owner = pwd.getpwnam("postfix").pw_uid
        files = [table.partition(":")[2] + ".db" for table in self.binary]
        os.chown(self.directory, owner, 0)
        for file in files:
            os.chown(file, owner, 0)
        with protocol.Client(socket) as client:
            for table in self.binary:
                pairs = [(key, b"v-" + key) for key in BINARY_KEYS]
                pairs += [
                    (b"empty-value", b""),
                    (LONG_KEY, b"long"),
                    (HEADER_KEY, b"REJECT header"),
                    (b"big", BIG_VALUE),
                    (b"lf-value", b"one\ntwo"),
                    (b"not-utf8", b"\xff\xfe\x80"),
                ]
                for key, value in pairs:
                    if client.ask(o_update(table, key, value, 64)) != reply("status", OK):
                        raise AssertionError(f"proxywrite did not store {key[:40]!r}")
        os.chown(self.directory, 0, 0)
        for file in files:
            os.chown(file, 0, 0)
            os.chmod(file, 0o644)


# -------------------------------------------------------------------------------------------- cases


def requests(table):
    """One well-formed request of each kind as a list of (name, value) pairs."""
    return {
        "open": [("request", "open"), ("table", table), ("flags", "0")],
        "lookup": [("request", "lookup"), ("table", table), ("flags", "64"), ("key", "alice")],
        "update": [
            ("request", "update"),
            ("table", table),
            ("flags", "64"),
            ("key", "alice"),
            ("value", "v"),
        ],
        "delete": [("request", "delete"), ("table", table), ("flags", "64"), ("key", "alice")],
        "sequence": [("request", "sequence"), ("table", table), ("flags", "64"), ("function", "0")],
    }


def wire(pairs, end=True):
    return attributes(*itertools.chain.from_iterable(pairs), end=end)


def no_reply(t):
    """Lists that are not requests at all."""
    yield "empty list", [b"\0"]
    yield "two empty lists", [b"\0\0"]
    yield "three empty lists", [b"\0\0\0"]
    yield "a name and nothing else", [b"garbage\0\0"]
    yield "one foreign attribute", [attributes("garbage", "x")]
    yield "table first", [attributes("table", t.plain, "request", "open", "flags", 0)]
    yield "table only", [attributes("table", t.plain)]
    yield "REQUEST", [attributes("REQUEST", "lookup", "table", t.plain, "flags", 0, "key", "alice")]
    yield "request with a blank", [
        attributes("request ", "lookup", "table", t.plain, "flags", 0, "key", "alice")
    ]
    yield "reques", [attributes("reques", "open", "table", t.plain, "flags", 0)]
    yield "reply instead of request", [reply("status", 0, "value", "x")]
    yield "greeting sent back", [protocol.GREETING]
    yield "binary name", [attributes(b"\xff\x80\x01", "x")]
    yield "long foreign list", [attributes(*["x" * 30, "y" * 30] * 40)]
    yield "foreign list, then request, each read", [attributes("a", "b"), o_open(t.plain)]


def unknown_requests(t):
    for word in (
        "frob",
        "",
        "Lookup",
        "LOOKUP",
        "lookup ",
        " open",
        "openx",
        "lookups",
        "close",
        "quit",
        "x" * 2000,
        "\n",
        b"\xff\xfe",
    ):
        yield f"request {word[:20]!r} alone", [attributes("request", word)]
        yield f"request {word[:20]!r} with attributes", [
            attributes("request", word, "table", t.plain, "flags", 0, "key", "x")
        ]


def truncated_requests(t):
    for table in (t.plain, t.users, t.private, "nocolon"):
        for kind, pairs in requests(table).items():
            for count in range(1, len(pairs)):
                yield f"{kind} with {count} of {len(pairs)} attributes, {table[-8:]}", [
                    wire(pairs[:count])
                ]


def reshaped_requests(t):
    for kind, pairs in requests(t.plain).items():
        for index, (name, value) in enumerate(pairs):

            def made(what, changed, index=index, kind=kind):
                return f"{kind}: {what} attribute {index + 1}", [wire(changed)]

            yield made("without", pairs[:index] + pairs[index + 1 :])
            yield made("twice", pairs[: index + 1] + pairs[index:])
            yield made("foreign before", pairs[:index] + [("bogus", "1")] + pairs[index:])
            yield made(
                "foreign with empty value before", pairs[:index] + [("bogus", "")] + pairs[index:]
            )
            yield made("upper-case", pairs[:index] + [(name.upper(), value)] + pairs[index + 1 :])
            yield made("longer name of", pairs[:index] + [(name + "s", value)] + pairs[index + 1 :])
            yield made("shorter name of", pairs[:index] + [(name[:-1], value)] + pairs[index + 1 :])
            if value:
                yield made("empty value of", pairs[:index] + [(name, "")] + pairs[index + 1 :])
            if index + 1 < len(pairs):
                swapped = pairs[:index] + [pairs[index + 1], pairs[index]] + pairs[index + 2 :]
                yield made("next one before", swapped)
        yield f"{kind}: reversed", [wire(pairs[::-1])]


def extra_attributes(t):
    for kind, pairs in requests(t.plain).items():
        for extra in (
            [("extra", "1")],
            [("extra", "")],
            [("flags", "0")],
            [("request", "open")],
            [("key", "bob")],
            [("a", "b")] * 20,
        ):
            yield f"{kind} and {len(extra)} extra {extra[0]}", [wire(pairs + extra)]
        # The list is complete except for its terminator; an extra name makes it certain that all
        # was there.
        yield f"{kind}, extra attribute in two parts", [
            wire(pairs, end=False) + b"extra\0",
            READ,
            b"late\0\0",
        ]
        yield f"{kind}, extra attribute, more later", [
            wire(pairs, end=False) + b"extra\0",
            READ,
            b"late\0a\0b\0\0",
        ]


def bad_numbers(t):
    for text in (
        "",
        "x",
        "0x10",
        "1.5",
        "1 ",
        "1\n",
        "--1",
        "- 1",
        "1x",
        "1e3",
        "+",
        "-",
        " ",
        "\xb2",
        "one",
        "1,000",
        "1\t",
    ):
        for kind, pairs in requests(t.plain).items():
            changed = [(name, text if name == "flags" else value) for name, value in pairs]
            yield f"{kind} with flags {text!r}", [wire(changed)]
        yield f"sequence with function {text!r}", [
            attributes("request", "sequence", "table", t.plain, "flags", 0, "function", text)
        ]
    for text in ("2", "3", "99", "4294967295", "010"):
        yield f"sequence with function {text!r}", [o_sequence(t.plain, text)]


def good_numbers(t):
    for text in (
        "0",
        "00",
        "010",
        "0" * 47 + "1",
        "000000000064",
        "1",
        "8388608",
        "268435456",
        "2147483648",
    ):
        yield f"lookup with flags {text}", [o_lookup(t.plain, "alice", text)]
    for text in ("0", "00", "0" * 47):
        yield f"open with flags {text}", [o_open(t.plain, text)]
    for text in ("00", "000"):
        yield f"sequence with function {text}", [o_sequence(t.plain, text)]


def table_names(t):
    path = t.plain.partition(":")[2]
    names = [
        "",
        ":",
        "::",
        "proxy:",
        "proxy:proxy:",
        "proxy",
        "nocolon",
        "proxy:nocolon",
        "proxy:proxy:nocolon",
        "hash:",
        "hash",
        ":x",
        path,
        t.private,
        "proxy:" + t.private,
        t.plain + "/",
        t.plain + ".db",
        t.plain + " ",
        " " + t.plain,
        t.plain + "\n",
        t.plain.replace("hash", "HASH"),
        t.plain.replace("hash", "btree"),
        "hash:" + path[1:],
        "hash:/" + path,
        t.plain.replace("/plain", "/../tables/plain"),
        t.plain.replace("/plain", "/./plain"),
        "proxy:" + t.plain,
        "proxy:" * 5 + t.plain,
        "PROXY:" + t.plain,
        "proxy: " + t.plain,
        t.plain[:-1],
        "hash:" + "x" * 5000,
        "x" * 5000,
        "unix:passwd",
        "unix:shadow.byname",
        "proxy:unix:passwd.byname",
        "static:x",
        "environ:PATH",
        "tcp:localhost:1",
        "fail:x",
        "\xff:\xff",
        "hash:/etc/aliases",
        "unix:passwd.byname ",
        "Unix:passwd.byname",
        "proxyproxy:" + t.plain,
        "proxy:proxy",
        "proxy::",
        ":" + t.plain,
    ]
    for name in names:
        for kind, pairs in requests(name).items():
            if (kind, name) != (
                "sequence",
                "proxy:unix:passwd.byname",
            ):  # that one is in the list of differences
                yield f"{kind} of table {name[:60]!r}", [wire(pairs)]


def refused_changes(t):
    for table in (
        t.plain,
        t.tree,
        t.private,
        "nocolon",
        "",
        t.users,
        t.missing[0],
        "proxy:" + t.plain,
    ):
        for flags in (0, 64, 524353, 590208):
            yield f"update {table[-12:]} {flags}", [o_update(table, "alice", "changed", flags)]
            yield f"delete {table[-12:]} {flags}", [o_delete(table, "alice", flags)]
    yield "update of an empty key", [o_update(t.plain, "", "", 64)]
    yield "delete of an empty key", [o_delete(t.plain, "", 64)]
    yield "update, then the old value", [
        o_update(t.plain, "alice", "changed", 64),
        READ,
        o_lookup(t.plain, "alice", 64),
    ]
    yield "delete, then still there", [
        o_delete(t.plain, "alice", 64),
        READ,
        o_lookup(t.plain, "alice", 64),
    ]


def opens(t):
    for table in t.good + [t.users, t.groups]:
        yield f"open {table[-14:]}", [o_open(table, 0)]
    for flags in (
        1,
        2,
        4,
        8,
        12,
        64,
        128,
        256,
        512,
        1024,
        2048,
        4096,
        8192,
        16384,
        32768,
        65536,
        131072,
        262144,
        2097152,
        2113600,
        16449,
        64 | 1,
    ):
        yield f"open hash with flags {flags}", [o_open(t.plain, flags)]
        yield f"open unix with flags {flags}", [o_open(t.users, flags)]
    yield "open twice", [o_open(t.tree, 0), READ, o_open(t.tree, 0)]
    yield "open, then miss, then open", [
        o_open(t.tree, 0),
        READ,
        o_lookup(t.tree, "nobody", 0),
        READ,
        o_open(t.tree, 0),
    ]


def looked_up(table, key, flags):
    """A lookup as a real client does it: the table is opened before, with flags that do not depend
    on the request."""
    return [o_open(table, 0), READ, o_lookup(table, key, flags)]


def lookups(t):
    keys = [
        "alice",
        "bob",
        "\\back",
        '"quoted',
        "x",
        "alice@example.com",
        "@example.com",
        "key=eq",
        "nobody",
        "",
        "alic",
        "alicee",
        "alice ",
        " alice",
        "ALICE",
        "Alice",
        "@",
        b"\xc3\xa9t\xc3\xa9",
        b"\xc3\x89T\xc3\x89",
        b"\xff",
        "a" * 5000,
        "alice\n",
        "@example.com\t",
        '"quoted key"',
    ]
    for table in (t.plain, t.tree):
        for key in keys:
            yield f"{table[-8:]} {key[:20]!r}", looked_up(table, key, 524352)
        for flags in REAL_FLAGS:
            for key in ("alice", "Alice", "nobody"):
                yield f"{table[-8:]} {key} with flags {flags}", looked_up(table, key, flags)
    for key in ("webmaster", "postmaster", "Postmaster", "@", "YP_MASTER_NAME", "webmaster:"):
        yield f"aliases {key}", looked_up(t.aliases, key, 64)
    for table in t.large:
        for number in (0, 1, 250, 499, 500):
            yield f"{table[-12:]} key{number}", looked_up(table, f"key{number}", 64)
    for table in t.empty:
        for key in ("", "x"):
            yield f"{table[-12:]} {key!r}", looked_up(table, key, 64)


def folding(t):
    for table in t.mixed:
        for key, flags in itertools.product(
            ("UPPER", "upper", "lower", "LOWER", "Mixed", "mixed", "MIXED"),
            (0, 64, FOLD, FOLD | 64, 32768, FOLD | 32768, 16449),
        ):
            yield f"{table[-12:]} {key} with flags {flags}", looked_up(table, key, flags)
    for flags in (0, FOLD):
        for key in (
            b"\xc3\x89T\xc3\x89",
            b"\xc3\xa9T\xc3\xa9",
            b"[ALICE]",
            b"@EXAMPLE.COM",
            b"ALICE@example.COM",
        ):
            yield f"plain {key!r} with flags {flags}", looked_up(t.plain, key, flags)
    for key in ("ROOT", "Root", "rOOT", "root", "NOBODY-1"):
        for flags in (0, FOLD, 32768, 64 | FOLD):
            yield f"users {key} with flags {flags}", looked_up(t.users, key, flags)
            yield f"groups {key} with flags {flags}", looked_up(t.groups, key, flags)


def stored_forms(t):
    for table in t.nul + t.bare:
        for flags, key in itertools.product(
            (0, 4, 8, 12, 64 | 4, 64 | 8, FOLD | 4, FOLD | 8), ("alice", "nobody", "", "ALICE")
        ):
            yield f"{table[-12:]} {key!r} with flags {flags}", looked_up(table, key, flags)
        for first, second in itertools.product((0, 4, 8), repeat=2):
            yield f"{table[-12:]} flags {first}, then {second}", [
                o_lookup(table, "alice", first),
                READ,
                o_lookup(table, "alice", second),
            ]


def odd_keys(t):
    for table in t.binary:
        for key in BINARY_KEYS + [
            LONG_KEY,
            HEADER_KEY,
            b"big",
            b"empty-value",
            b"lf-value",
            b"not-utf8",
            LONG_KEY + b"x",
            b"x" * (1 << 20),
            b"two",
            b"two\n",
            HEADER_KEY[:-1],
        ]:
            yield f"{table[-13:]} {key[:12]!r}, {len(key)} bytes", looked_up(table, key, 64)


def users_and_groups(t):
    names = [entry.pw_name for entry in pwd.getpwall()]
    for name in names + [
        "no-such-user",
        "0",
        "",
        "root:x",
        "root ",
        "a" * 300,
        b"\xff\xfe",
        "root\n",
        "*",
        "+",
    ]:
        yield f"user {name[:20]!r}", looked_up(t.users, name, 524352)
    for name in [entry.gr_name for entry in grp.getgrall()] + ["no-such-group", "0", "", b"\x01"]:
        yield f"group {name[:20]!r}", looked_up(t.groups, name, 524352)


def failing(t):
    for table in t.failing:
        for key in ("alice", "", "nobody"):
            yield f"{table[-10:]} {key!r}", [o_lookup(table, key, 64)]
            yield f"{table[-10:]} {key!r} with flags 524352", [o_lookup(table, key, 524352)]
        yield f"{table[-10:]}, then a good table", [
            o_lookup(table, "alice", 64),
            READ,
            o_lookup(t.plain, "alice", 64),
        ]
        yield f"sequence of {table[-10:]}", [o_sequence(table, 0, 64)]


def halves(t):
    """Half-close after each prefix of a request, and after whole ones."""
    yield "nothing, then half-close", [EOF]
    pairs = requests(t.plain)
    for kind, whole in ((kind, wire(pairs[kind])) for kind in ("lookup", "open")):
        for length in range(1, len(whole) + 1):
            yield f"{kind}: {length} of {len(whole)} bytes, half-close", [whole[:length], EOF]
    for kind in ("update", "delete", "sequence"):
        whole = wire(pairs[kind])
        ends = [index + 1 for index, byte in enumerate(whole) if byte == 0]
        for length in sorted(
            {cut for end in ends for cut in (end - 1, end, end + 1)} & set(range(1, len(whole) + 1))
        ):
            yield f"{kind}: {length} of {len(whole)} bytes, half-close", [whole[:length], EOF]
    yield "unknown request, half-close", [attributes("request", "frob"), EOF]
    yield "part of an unknown request, half-close", [b"request\0frob\0", EOF]
    yield "foreign list, half-close", [attributes("a", "b"), EOF]
    yield "empty list, half-close", [b"\0", EOF]
    yield "request answered, half-close", [o_lookup(t.plain, "alice", 64), READ, EOF]


def splits(t):
    """One request in two writes, cut at each byte; the server has read the first before the second
    is sent."""
    for whole in (
        o_lookup(t.plain, "alice", 64),
        o_open(t.plain, 0),
        o_sequence(t.plain, 0, 64),
        o_update(t.plain, "a", "b"),
        attributes("request", "frob"),
        attributes("request", "lookup", "table", t.plain),
    ):
        for cut in range(1, len(whole)):
            yield f"{whole[8:14]} cut at {cut}", [whole[:cut], whole[cut:]]
    whole = o_lookup(t.plain, "alice", 64)
    yield "one byte at a time", [whole[index : index + 1] for index in range(len(whole))]


def mutations(t):
    """Random lists, the same in each run: attributes dropped, doubled, moved, renamed, with other
    values."""
    choose = random.Random(20220513)
    names = ["request", "table", "flags", "key", "value", "function", "instance_flag", "x"]
    values = {
        "request": ["open", "lookup", "update", "delete", "sequence", "frob"],
        "table": [t.plain, t.private, "nocolon", "proxy:" + t.tree],
        "flags": ["0", "64", "16384", "x", ""],
        "key": ["alice", "ALICE", "", "nobody", "\xe9"],
        "function": ["0", "2", "x"],
    }
    for number in range(250):
        pairs = list(choose.choice(list(requests(choose.choice(values["table"])).values())))
        for _ in range(choose.choice((1, 1, 2, 3))):
            index = choose.randrange(len(pairs))
            name, value = pairs[index]
            how = choose.randrange(5)
            if how == 0 and len(pairs) > 1:
                del pairs[index]
            elif how == 1:
                pairs.insert(choose.randrange(len(pairs) + 1), (name, value))
            elif how == 2:
                pairs[index] = (choose.choice(names), value)
            elif how == 3:
                pairs[index] = (name, choose.choice(values.get(name, ["", "1", "alice"])))
            else:
                pairs.insert(index, pairs.pop(choose.randrange(len(pairs))))
        if choose.random() < 0.2:
            pairs.append(("extra", "1"))
        yield f"mutation {number}", [wire(pairs)]


WRITTEN_OTHERWISE = ("upper", "mixed")  # The tables have these keys in other letters.


def typed_opens(t):
    """For real clients `flags` of an open are 0; the others are bits that they may send."""
    for table in t.typed:
        for flags in (0, 1, 64, 128, 2048, 16384, 32768):
            yield f"{table[:60]} flags {flags}", [o_open(table, flags)]


def typed_lookups(t):
    """A real client opens first, with flags 0, and has folded its keys."""
    keys = ["alice", "ALICE", "Alice", "bob", "x", "UPPER", "upper", "Mixed", "mixed", "lower"]
    keys += ["none", "nobody", "alic", " alice", "alice ", '"quoted', '"quoted key"', "key=eq"]
    keys += [b"\xc3\xa9t\xc3\xa9", "*", "a" * 5000]
    for table in t.typed:
        lmdb = table.startswith("lmdb:")  # The empty key ends the process of proxymap.
        for flags, key in itertools.product((64, 524352, 526400, 524353), keys + [""][lmdb:]):
            if key in WRITTEN_OTHERWISE and flags != 64:
                continue  # For texthash and inline they are among the differences.
            yield f"{table[:60]} {key[:12]!r} with flags {flags}", [
                o_open(table, 0),
                READ,
                o_lookup(table, key, flags),
            ]


def typed_failing(t):
    for table in t.typed_failing:
        for key in ("a", ""):
            yield f"{table} {key}", [o_lookup(table, key, 64)]


CATEGORIES = (
    typed_opens,
    typed_lookups,
    typed_failing,
    no_reply,
    unknown_requests,
    truncated_requests,
    reshaped_requests,
    extra_attributes,
    bad_numbers,
    good_numbers,
    table_names,
    refused_changes,
    opens,
    lookups,
    folding,
    stored_forms,
    odd_keys,
    users_and_groups,
    failing,
    halves,
    splits,
    mutations,
)

# ------------------------------------------------------------------- the differences that are meant

DIES = "the process dies"  # All its clients see end of file.
UNTOLD = "not asserted"  # Seeing it would take waiting for something not to happen.
FOUND = reply("status", OK, "value", "alice@example.org")
BAD_LOOKUP = reply("status", BAD, "value", "")


def differences(t):
    """(name, reason, parts, what proxymap answers, what jailmapd answers)."""
    ask, bob = o_lookup(t.plain, "alice", 64), o_lookup(t.plain, "bob", 64)
    found_bob = reply("status", OK, "value", "bob@example.org, carol@example.org")

    # proxymap throws away what else it has read when it replies. A client that pipelines would wait
    # for ever.
    reason = "requests pipelined in one write are all answered, in order"
    yield "two in one write", reason, [ask + bob], FOUND, FOUND + found_bob
    yield "a bad one and a good one", reason, [
        attributes("request", "lookup", "x", "y") + bob
    ], BAD_LOOKUP, BAD_LOOKUP + found_bob
    yield "an unknown one and a good one", reason, [
        attributes("request", "frob", "a", "b") + bob
    ], reply("status", BAD), reply("status", BAD) + found_bob
    yield "one with an extra attribute and a good one", reason, [
        ask[:-1] + attributes("extra", "1") + bob
    ], FOUND, FOUND + found_bob
    yield "an empty list and a good one", reason, [b"\0" + bob], b"", found_bob
    yield "a hundred in one write", reason, [ask * 100], UNTOLD, FOUND * 100

    # scanf-style tolerance of proxymap; real clients send plain decimal, and a strict reader has
    # fewer cases.
    reason = "numbers are plain decimal from 0 to 4294967295, everything else is BAD"
    for text in (
        "+1",
        " 1",
        "\t1",
        "\n1",
        "-0",
        "4294967296",
        "4294967297",
        "8589934593",
        "-4294967295",
    ):
        yield f"flags {text!r}", reason, [o_lookup(t.plain, "alice", text)], FOUND, BAD_LOOKUP
    for text in ("-1", "18446744073709551616", "99999999999999999999999"):
        yield f"flags {text!r}", reason, [o_lookup(t.plain, "alice", text)], DIES, BAD_LOOKUP

    # Both bits together make proxymap abort when the table is first opened.
    reason = "no combination of flags is dangerous: locks are not the client's business"
    for flags in (65536 | 64, 4294967295):
        yield f"lookup with flags {flags}", reason, [o_lookup(t.plain, "alice", flags)], DIES, FOUND
    yield "open with LOCK and OPEN_LOCK", reason, [o_open(t.plain, 65600)], DIES, reply(
        "status", OK, "flags", 65628
    )

    # In proxymap an instance of a table keeps what its clients did to it.
    reason = "an open reply does not show what other requests left behind"
    yield "open after a hit", reason, [
        o_open(t.plain, 0),
        READ,
        ask,
        READ,
        o_open(t.plain, 0),
    ], reply("status", OK, "flags", 28) + FOUND + reply("status", OK, "flags", 88), reply(
        "status", OK, "flags", 28
    ) + FOUND + reply(
        "status", OK, "flags", 28
    )

    # The flags reach the client for ever; 32 (pattern) would stop it from looking up parts of an
    # address after the table was repaired.
    reason = "a failing table opens with the type bits that it has when it works"
    for table in t.failing + t.typed_failing:
        bits = {"cdb": 28, "lmdb": 262172, "texthash": 16, "inline": 16, "static": 16}
        yield f"open {table[-8:]}", reason, [o_open(table, 0)], reply(
            "status", OK, "flags", 32
        ), reply("status", OK, "flags", bits.get(table.partition(":")[0], 28))

    # proxymap <= 3.10 reads a text table as the first client opens it, with flags 0 and so as
    # written; the keys that clients have folded cannot match an entry in upper case ever after.
    reason = "an entry of a text table is found in whatever letters it is written"
    for table in (table for table in t.typed if table.startswith(("texthash:", "inline:"))):
        opened = reply("status", OK, "flags", 16)
        yield f"upper in {table[:40]}", reason, [
            o_open(table, 0),
            READ,
            o_lookup(table, "upper", 524352),
        ], opened + reply("status", NOKEY, "value", ""), opened + reply("status", OK, "value", "u")
    table = t.text_twice
    reason = "a texthash with a key that stands there twice works, and the first one counts"
    yield "texthash with duplicates", reason, [o_lookup(table, "a", 524352)], reply(
        "status", RETRY, "value", ""
    ), reply("status", OK, "value", "first")
    reason = "an empty texthash file may be about to be written"
    yield "texthash of zero bytes", reason, [o_lookup(t.text_zero, "a", 524352)], reply(
        "status", NOKEY, "value", ""
    ), reply("status", RETRY, "value", "")
    reason = "nobody opens a file that a table names"
    yield "contents of files", reason, [o_lookup(t.text_files, "a", 2621505)], reply(
        "status", OK, "value", "Y29udGVudHMK"
    ), reply("status", RETRY, "value", "")
    reason = "an empty key is one that lmdb does not have"
    table = t.typed[3]
    yield "empty key in lmdb", reason, [o_lookup(table, "", 64)], DIES, reply(
        "status", NOKEY, "value", ""
    )

    # Clients check and fold UTF-8 themselves when the server does not claim to. In real use
    # proxymap <= 3.10 never does either, because clients open with flags that lack the bit.
    reason = "the UTF-8 layer is left to the client"
    yield "open with UTF8_REQUEST", reason, [o_open(t.plain, UTF8)], reply(
        "status", OK, "flags", UTF8 | 1048576 | 28
    ), reply("status", OK, "flags", UTF8 | 28)
    yield "first request carries UTF8_REQUEST, key is not UTF-8", reason, [
        o_lookup(t.binary[0], b"\xffkey", UTF8)
    ], reply("status", NOKEY, "value", ""), reply("status", OK, "value", b"v-\xffkey")

    # proxymap ends the process of all clients when a type has no sequence.
    reason = "sequence on a type without it is a temporary error for the one who asked"
    for table in (t.users, t.groups, t.typed[-1]):
        yield f"sequence {table}", reason, [o_sequence(table, 0, 64)], DIES, reply(
            "status", RETRY, "key", "", "value", ""
        )

    reason = "sequence over cdb, which proxymap has since 3.10"
    yield "sequence cdb", reason, [o_sequence(t.typed[2], 0, 64)], DIES, reply(
        "status", OK, "key", "UPPER", "value", "u"
    )

    # proxymap aborts without a cursor.
    reason = "the cursor belongs to the connection, and `next` without `first` is the first entry"
    for table in (t.mixed[1],):
        yield f"next before first {table[-8:]}", reason, [o_sequence(table, 1, 64)], DIES, reply(
            "status", OK, "key", "Mixed", "value", "m"
        )

    # Both dialects are served on one socket, as the attribute after `table` says; Debian's proxymap
    # knows only one.
    reason = "requests of the dialect of Postfix 3.11 are understood"
    yield "N open", reason, [n_open(t.plain, 0)], reply("status", BAD, "flags", 0), reply(
        "status", OK, "flags", 28
    )
    yield "N lookup", reason, [n_lookup(t.plain, "bob", 0, 20)], BAD_LOOKUP, UNTOLD


def show(data):
    """Bytes for a reader: NUL as a dot in a box, long ones cut."""
    if not isinstance(data, bytes):
        return str(data)
    text = repr(data[:400])[2:-1].replace("\\x00", "\N{SYMBOL FOR NULL}")
    return text + (f" ... {len(data)} bytes" if len(data) > 400 else "")
