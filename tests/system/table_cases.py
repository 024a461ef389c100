"""What the differential tests of slow tables ask: configuration files, rules, keys, and the answers
of test servers, made systematically.

Used inside tests/system/run, as root; writes below directories that it is given. It knows nothing
of either server; which differences are meant stands in test_differential_tables.py.
"""

import os
import sqlite3

from harness import Workspace
from servers import Raw

NO_REGSUB = 2048
CLIENT = 524352  # What most of Postfix's daemons send.
FOLDING = 540736  # The same with smtputf8_enable = no.

LABELS = "one.two.three.four.five.six.seven.eight.nine"
LONG = "x" * 3000


def old(path):
    """Gives a file an age, since Postfix reads one that has just been written for two seconds."""
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


# ---- SQL ----

# key, value, other: rows of a table with k, u, d (the parts of k), v and w.
ROWS = [
    ("alice@example.com", "alice-box@store.example", "w-alice"),
    ("bob@example.com", "bob", None),
    ("multi@example.com", "one@a.example", "first"),
    ("multi@example.com", "two@b.example", ""),
    ("multi@example.com", "three", "third"),
    ("carol", "carol@home.example", "w-carol"),
    ("empty@example.com", "", ""),
    ("null@example.com", None, None),
    ("half@example.com", None, "only-w"),
    ("at@example.com", "@start.example", "end@"),
    ("o'brien@example.com", "o'value", "''"),
    ('quo"te@example.com', 'a "quoted" value', '"'),
    ("back\\slash@example.com", "back\\value", "\\"),
    ("per%cent@example.com", "100%s", "%d %1 %%"),
    ("%s@example.com", "a template", "%u"),
    ("under_score@example.com", "underscore", "x"),
    ("comma@example.com", "one,two, three", ","),
    ("été@example.com", "été-value", "ü"),
    ("alice@mail.example.com", "alice-at-mail", "sub"),
    ("alice@other.org", "alice-at-other", "other"),
    ("dave@a.b.c", "dave-abc", "abc"),
    (f"nine@{LABELS}", "nine-labels", "9"),
    ("tab\tkey@example.com", "tab\tvalue", "\t"),
    ("line\nkey@example.com", "line\nvalue", "\n"),
    ("two@at@example.com", "two-ats", "@@"),
    ("spaces in@example.com", " padded ", " "),
    (f"{LONG}@example.com", LONG, "long"),
]

SQL_KEYS = [
    *dict.fromkeys(row[0] for row in ROWS),
    "Alice@Example.COM",
    "nobody@example.com",
    "@example.com",
    "alice@",
    "@",
    "",
    " ",
    "alice@EXAMPLE.com",
    "alice@example.org",
    "alice@.com",
    "alice@com.",
    "alice@a..c",
    "alice@com",
    "x' OR '1'='1",
    "x'; DROP TABLE t; --@example.com",
    "x\\' OR 1=1 -- @example.com",
    "/* */@example.com",
    "%d@example.com",
    "_lice@example.com",
    "100%",
    "\u65e5\u672c@example.com",
    b"caf\xe9@example.com",
    b"\xff\xfe@example.com",
    b"\xc3'@example.com",
]

SELECT = "SELECT v FROM t WHERE "
SQL_FILES = {
    "key": {"query": SELECT + "k='%s'"},
    "user": {"query": SELECT + "u='%u' ORDER BY id"},
    "domain": {"query": SELECT + "d='%d' AND u='alice'"},
    "parts": {"query": SELECT + "u='%u' AND d='%d' ORDER BY id"},
    "key-capital": {"query": SELECT + "k='%S' ORDER BY id"},
    "user-capital": {"query": SELECT + "u='%U' AND d='%D' ORDER BY id"},
    "labels-1": {"query": SELECT + "d LIKE '%%.%1' AND u='%u' ORDER BY id"},
    "labels-2": {"query": SELECT + "d='%2.%1' AND u='%u' ORDER BY id"},
    "labels-3": {"query": SELECT + "d='%3.%2.%1' ORDER BY id"},
    "labels-9": {"query": SELECT + "d='%9.%8.%7.%6.%5.%4.%3.%2.%1' ORDER BY id"},
    "percent": {"query": "SELECT '100%%' FROM t WHERE k='%s'"},
    "constant": {"query": "SELECT 'always'"},
    "columns": {"query": "SELECT v, w, id FROM t WHERE k='%s' ORDER BY id"},
    "none": {"query": "SELECT v FROM t WHERE k='%s' AND 1=0"},
    "format-s": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "<%s>"},
    "format-ud": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%u at %d"},
    "format-d": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%d"},
    "format-u": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%u"},
    "format-key": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%S:%U:%D:%s"},
    "format-label": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%1/%2/%s"},
    "format-percent": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "%%%s%%"},
    "format-fixed": {"query": SELECT + "k='%s' ORDER BY id", "result_format": "there"},
    "limit-1": {"query": SELECT + "k='%s' ORDER BY id", "expansion_limit": 1},
    "limit-2": {"query": SELECT + "k='%s' ORDER BY id", "expansion_limit": 2},
    "limit-3": {"query": SELECT + "k='%s' ORDER BY id", "expansion_limit": 3},
    "only-domain": {"query": SELECT + "k='%s' ORDER BY id", "domain": "example.com"},
    "only-domains": {"query": SELECT + "k='%s' ORDER BY id", "domain": "OTHER.org, Example.Com"},
    "not-domain": {"query": SELECT + "k='%s' ORDER BY id", "domain": "!other.org example.com"},
    "sub-domain": {"query": SELECT + "k='%s' ORDER BY id", "domain": ".example.com com"},
    "legacy": {"table": "t", "select_field": "v", "where_field": "k"},
    "legacy-more": {
        "table": "t",
        "select_field": "w",
        "where_field": "k",
        "additional_conditions": "AND v IS NOT NULL ORDER BY id",
    },
}


def sql_text(kind):
    """Statements that make the table t, for a server of that kind."""

    def literal(text):
        if text is None:
            return "NULL"
        text = text.replace("'", "''")
        return "'" + (text.replace("\\", "\\\\") if kind == "mysql" else text) + "'"

    binary = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if kind == "mysql" else ""
    text = f"CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT, u TEXT, d TEXT, v TEXT, w TEXT){binary};\n"
    for number, (key, value, other) in enumerate(ROWS, 1):
        user, at, domain = key.rpartition("@")
        columns = key, user if at else key, domain, value, other
        text += f"INSERT INTO t VALUES ({number}, {', '.join(map(literal, columns))});\n"
    if kind == "mysql":
        text += "GRANT SELECT ON mail.t TO 'mail'@'%';\n"
    elif kind == "pgsql":
        text += "GRANT SELECT ON t TO mail;\n"
    return text


def sqlite_database(path):
    with sqlite3.connect(path) as database:
        database.executescript(sql_text("sqlite"))
    database.close()
    os.chmod(path, 0o644)
    return old(path)


def sql_tables(kind, directory, text_of, extra=None):
    """label -> (table, keys): a .cf file for each of SQL_FILES, whose text is text_of(**parameters),
    readable for Postfix."""
    found = {}
    for label, parameters in {**SQL_FILES, **(extra or {})}.items():
        path = Workspace.write(directory, f"{kind}-{label}.cf", text_of(**parameters))
        found[f"{kind} {label}"] = f"{kind}:{old(path)}", SQL_KEYS
    return found


# ---- patterns ----

CIDR = {
    "plain": """\
# comment

10.0.0.0/8 ten
10.1.0.0/16 never: ten comes first
192.168.1.1 one address
192.168.1.0/24   the net,\twith blanks
[192.168.2.1] bracketed
[192.168.3.0/24] bracketed net
[192.168.4.0]/24 net behind brackets
0.0.0.0/32 zero
255.255.255.255 all ones
2001:db8::/32 documentation
2001:DB8:1::1 upper
[2001:db9::]/48 bracketed six
::1 loopback
::ffff:1.2.3.4 mapped
fe80::/10 link
172.16.0.0/12
   continued value
203.0.113.0/25 low
203.0.113.128/25 high
""",
    "bad": """\
10.0.0.1/8 host bits are set
10.0.0.0/33 too long
10.0.0.0/ no length
10.0.0 short
010.0.0.1 octal
1.2.3.4/x letters
2001:db8::1/32 host bits
300.1.1.1 no address
1.2.3.4
[1.2.3.4 open bracket
1.2.3.4] closing bracket
!  nothing
endif
1.2.3.5 good after bad ones
 2.2.2.2 continues the line before
10.0.0.0/8 ten, at last
""",
    "if": """\
if 10.0.0.0/8
10.1.0.0/16 inside one
if 10.2.0.0/16
10.2.3.0/24 inside two
10.2.0.0/16 two
endif
!10.3.0.0/16 not three
endif
IF !192.168.0.0/16
172.16.0.0/12 not in 192.168
ENDIF
!! 198.51.100.0/24 twice negated
! 192.168.0.0/16 negated, four
!2001:db8::/32 negated, six
192.168.0.0/16 last
2001:db8::/32 last six
""",
    "open-if": """\
1.1.1.1 before
if 10.0.0.0/8
10.0.0.1 inside
1.1.1.2 inside, never
""",
    "ends": """\
1.1.1.1 before
endif
endif extra
if 1.0.0.0/8
endif extra
1.2.0.0/16 inside
endif
0.0.0.0/0 everything
::/0 everything of six
""",
}

CIDR_KEYS = [
    "10.0.0.0", "10.0.0.1", "10.1.2.3", "10.2.3.4", "10.2.0.1", "10.3.0.1", "10.4.0.1",
    "192.168.1.1", "192.168.1.2", "192.168.2.1", "192.168.2.2", "192.168.3.9", "192.168.4.255",
    "192.168.001.1", "192.168.1.1 ", " 192.168.1.1", "192.168.1", "0.0.0.0", "255.255.255.255",
    "172.16.0.1", "172.31.255.255", "172.32.0.0", "203.0.113.127", "203.0.113.128",
    "198.51.100.7", "198.51.101.7", "1.1.1.1", "1.1.1.2", "1.2.3.4", "1.2.3.5", "2.2.2.2",
    "2001:db8::1", "2001:DB8::1", "2001:db8:1::1", "2001:0db8:0001:0000:0000:0000:0000:0001",
    "2001:db9::5", "2001:db9:0:1::", "::1", "::", "::ffff:1.2.3.4", "::ffff:10.0.0.1", "fe80::1",
    "fec0::1", "[::1]", "[10.0.0.1]", "user@example.com", "", "x", "10.0.0.0/8", "300.1.1.1",
    "1.2.3.4.5", "0x0a000001", "10.0.0.1\n", b"\xff",
]  # fmt: skip

REGEXP = {
    "plain": """\
# comment
/^alice@/ to alice
/^BOB@/i only lower and upper, toggled
/^Carol@/ any case
/\\.example\\.com$/x basic syntax
/^(.*)@(.*)\\.org$/ user $1 at $2
/^both-(a|b)$/!/b$/ a and not b
/slash\\/inside/ slash
|^pipe| other delimiter
/^empty$/
/^group-(x)?(y)?$/ [$1][$2][${1}][$(2)]
/^dollar$/ costs $$5
/^swap (.+) (.+)$/ $2 $1
/long@value/ one
   two
\tthree
!/@/ no at sign: it is negated
""",
    "bad": """\
/^A1$/b unknown flag
/^A2$ no end
/^(A3$/ unbalanced
/^A4$/ $1 has no group
/^(A5)$/ $1a has no such name
/^(A6)$/ ${1}a fine
/^(A7)$/ $
/^(A8)$/ ${1
/^(A9)$/ $2
/^(B1)$/ $0
!/^B2(.)$/ $1 negated
words are ignored
if
endif extra
/^B3$/ good
/^B4$/good without a blank
1/^B5$/ digit as delimiter
/^[B6$/ class
/^B7{2,1}$/ range
/^B.*$/ some other B
/^a$/ lower
""",
    "if": """\
if /@example\\.com$/
/^alice/ alice at example
if !/^bob/
/^b/ b but not bob
endif
/./ somebody at example
endif
IF !/@/
/^(.*)$/ no at: $1
ENDIF
endif
if /unclosed/
/./ inside
""",
    "multi": """\
/^second/m a later line
/first$/ whole end
/^a.b$/ dot
/a.*z/ across
/^$/ empty key
/^x+$/ many x
/[[:digit:]]{3}/ three digits
/^\\(paren\\)$/x basic group
/(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)/ $11$10$9
/back\\\\slash/ backslash
/\\$literal/ dollar sign
""",
}

PCRE = {
    "plain": """\
# comment
/^alice@/ to alice
/^BOB@/i only this case
/^Carol@/ any case
/^(?<name>\\w+)@(\\w+)\\.org$/ user $1 at $2
/slash\\/inside/ slash
|^pipe| other delimiter
/^empty$/
/^group-(x)?(y)?@$/ [$1][$2][${1}][$(2)]
/^dollar@$/ costs $$5
/^swap (.+) (.+)@$/ $2 $1
/long@value/ one
   two
\tthree
/^a(?=@)/ ahead
/\\bword\\b@/ word
/^(\\d+)@\\1$/ twice $1
!/@/ no at sign: it is negated
""",
    "bad": REGEXP["bad"].replace("/^B7{2,1}$/ range", "/^B7(?<$/ name"),
    "if": REGEXP["if"],
    "flags": """\
/first.second/s no dot for the line end
/first.+third/ dot for all
/^second$/m line
/^anch/A anchored
/s p a c e/x spaces do not count
/^end$/E only at the very end
/^(.+)x/U [$1] ungreedy
/^greedy(.+)x/ [$1]
/old/X obsolete
/both/im two flags
/ISONLY/i case
/^x+$/ many x
/(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)/ $11$10$9
/back\\\\slash/ backslash
/\\$literal/ dollar sign
/^$/ empty key
""",
}

PATTERN_KEYS = [
    "alice@example.com", "ALICE@Example.com", "bob@example.com", "BOB@example.com", "Bob@x",
    "carol@x", "CAROL@x", "joe@dept.example.com", "joe@Example.org", "a.b@c.d.org", "both-a",
    "both-b", "no-at", "x slash/inside@", "pipe@", "empty", "EMPTY", "group-", "group-x", "group-y",
    "group-xy", "group-xy@", "group-x@", "dollar", "dollar@", "swap one two", "swap a b c@",
    "long@value", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "B1", "B2x", "B3", "B4",
    "B5", "B6", "B7", "B77", "b", "a", "a@x", "word@", "a word@b", "sword@", "12@12", "12@13",
    "bill@example.com", "unclosed@", "first\nsecond", "first\nsecond\nthird", "second", "a.b",
    "axb", "a\nz", "az", "", " ", "x", "xxx", "X", "12", "123", "(paren)", "paren", "abcdefghijk",
    "back\\slash", "$literal", "anchor", "an anchor", "space", "s p a c e", "end", "end\n",
    "aaxbbx", "greedyaaxbbx", "old", "both", "BOTH", "isonly", "ISONLY", "ünïcode@example.com",
    b"caf\xe9@x.org", "x" * 2000, "name@" + "y" * 500 + ".org",
]  # fmt: skip

INLINE_PATTERNS = {
    "cidr inline": ("cidr:{{10.0.0.0/8 ten}, {::1 six}, {!192.168.0.0/16 other}}", CIDR_KEYS),
    "regexp inline": ("regexp:{{/^alice@/ to alice}, {/^B/ bees}, {!/@/ none}}", PATTERN_KEYS),
    "pcre inline": ("pcre:{{/^alice@/ to alice}, {/^B\\d/ bees}, {!/@/ none}}", PATTERN_KEYS),
}


def pattern_tables(directory):
    """label -> (table, keys). Those whose label ends in "without substitution" are to be asked
    with NO_REGSUB and nothing else."""
    found = dict(INLINE_PATTERNS)
    for kind, files, keys in (
        ("cidr", CIDR, CIDR_KEYS),
        ("regexp", REGEXP, PATTERN_KEYS),
        ("pcre", PCRE, PATTERN_KEYS),
    ):
        for label, text in files.items():
            for more in ("", " without substitution")[: 1 if kind == "cidr" else 2]:
                name = f"{kind}-{label}{more.replace(' ', '-')}"
                path = old(Workspace.write(directory, name, text))
                found[f"{kind} {label}{more}"] = f"{kind}:{path}", keys
    return found


# ---- servers of the test ----

# What a socketmap server says, by the key.
SOCKETMAP = {
    "value": b"OK a value",
    "empty": b"OK ",
    "blank": b"OK  leading blank",
    "not-found": b"NOTFOUND ",
    "not-found-bare": b"NOTFOUND",
    "not-found-text": b"NOTFOUND for some reason",
    "temp": b"TEMP try later",
    "temp-bare": b"TEMP",
    "timeout": b"TIMEOUT took long",
    "perm": b"PERM never",
    "lower": b"ok value",
    "unknown": b"WHAT is this",
    "nothing": b"",
    "space": b" ",
    "tab": b"OK\tvalue",
    "bytes": b"OK \xff\xfe caf\xe9",
    "nul": b"OK up to\0here",
    "lines": b"OK one\ntwo\r\n",
    "many": b"OK " + b"v" * 90_000,
    "most": b"OK " + b"v" * (100_000 - 3),
}

SOCKETMAP_KEYS = [
    *SOCKETMAP,
    *(f"key-{number}" for number in range(40)),
    "", " ", "two words", "colon:key", "comma,key", "Mixed@Example.COM", "été", b"\xff\xfe",
    "line\nkey", "%41", "123:abc,", "x" * 5000, "y" * 9_900,
    *(f"user{number}@example.com" for number in range(40)),
]  # fmt: skip

# Answers that are none, as they are on the wire, and None, which is the end of the connection.
SOCKETMAP_BAD = {
    "giant": b"999999999999999999999:x",
    "large": b"100001:" + b"x" * 100_001 + b",",
    "no-comma": b"7:OK fine;",
    "no-length": b":OK fine,",
    "letters": b"x:OK fine,",
    "text": b"OK fine\n",
    "end": None,
}
TCP_BAD = {
    "temporary": b"400 later\n",
    "no-number": b"hello\n",
    "two-digits": b"20 x\n",
    "no-blank": b"200\n",
    "nine": b"900 x\n",
    "one": b"100 x\n",
    "bad-quote": b"200 %zz\n",
    "cut-quote": b"200 %4\n",
}

# What a tcp_table server says, by the key.
TCP = {
    "value": b"200 a value",
    "quoted": b"200 a%20value%0a%41%7e%7E",
    "high": b"200 caf%c3%a9 %ff",
    "empty": b"200 ",
    "percent": b"200 100%25",
    "other-2": b"299 also found",
    "return": b"200 value\r",
    "tab": b"200\tvalue",
    "blanks": b"200  leading",
    "nul": b"200 up%00to",
    "raw": b"200 caf\xc3\xa9",
    "long": b"200 " + b"v" * 4000,
    "longest": b"200 " + b"v" * 4091,
    "missing": b"500 not there",
    "other-5": b"550 not there either",
}

TCP_KEYS = [
    *TCP,
    *(f"key-{number}" for number in range(40)),
    "", " ", "two words", "colon:key", "Mixed@Example.COM", "été", b"\xff\xfe", "line\nkey",
    "%41", "100%", "tab\tkey", "\x01\x7f", "x" * 1000,
    *(f"user{number}@example.com" for number in range(40)),
]  # fmt: skip


def bad_answer(answers):
    """What a server says to whom it gives such answers."""

    def answer(request):
        found = answers.get(request.partition(b" ")[2].decode() or request.decode())
        return None if found is None else Raw(found)

    return answer


def socketmap_answer(request):
    """Of any key that is not in SOCKETMAP: what was asked, or that there is no such key."""
    name, _, key = request.partition(b" ")
    if name == b"map" and key.decode(errors="replace") in SOCKETMAP:
        return SOCKETMAP[key.decode()]
    return b"NOTFOUND " if key.endswith(b"3") else b"OK asked <" + request + b">"


def tcp_answer(request):
    if request.decode(errors="replace") in TCP:
        return TCP[request.decode()]
    return b"500 none" if request.endswith(b"3") else b"200 asked<" + request + b">"


# ---- tables of tables ----

MEMBER_KEYS = [
    "a", "b", "c", "d", "both", "A", "", "none", "10.0.0.1", "alice@example.com", "x y", "empty",
    *(f"n{number}" for number in range(16)),
]  # fmt: skip


def composite_tables(directory):
    """label -> (table, keys), and the list of all members."""
    rules = old(Workspace.write(directory, "members.pcre", "/^(.)$/ one $1\n/@/ at\n/^n1/ n-one\n"))
    text = "a first\nboth here\nd a\nempty-not x\n" + "".join(
        f"n{number} n{number + 1}\n" for number in range(0, 16, 2)
    )
    words = old(Workspace.write(directory, "members.texthash", text))
    one, two = "inline:{a=1, both=2, {b = c}, n1=n2, {empty=}}", "inline:{c=3, both=4, 1=one}"
    pcre, file, net = f"pcre:{rules}", f"texthash:{words}", "cidr:{{10.0.0.0/8 ten}}"
    members = [one, two, pcre, file, net, "static:S", "fail:x"]
    tables = {
        "unionmap two": f"unionmap:{{{one}, {two}}}",
        "unionmap turned": f"unionmap:{{{two}, {one}}}",
        "unionmap blanks": f"unionmap:{{  {one}   {two} }}",
        "unionmap three": f"unionmap:{{{file},{pcre},{net}}}",
        "unionmap static": f"unionmap:{{{one}, static:S}}",
        "unionmap one": f"unionmap:{{{file}}}",
        "unionmap fails": f"unionmap:{{{one}, fail:x, {two}}}",
        "unionmap twice": f"unionmap:{{{one}, {one}}}",
        "unionmap proxied": f"unionmap:{{proxy:{one}, proxy:proxy:{two}}}",
        "pipemap two": f"pipemap:{{{one}, {two}}}",
        "pipemap file": f"pipemap:{{{file}, {pcre}}}",
        "pipemap self": f"pipemap:{{{file}, {file}}}",
        "pipemap fails": f"pipemap:{{{one}, fail:x}}",
        "pipemap fails first": f"pipemap:{{fail:x, {one}}}",
        "pipemap static": f"pipemap:{{{file}, static:S}}",
        "pipemap one": f"pipemap:{{{pcre}}}",
        "union of pipe": f"unionmap:{{pipemap:{{{one}, {two}}}, {two}}}",
        "pipe of union": f"pipemap:{{unionmap:{{{file}, {one}}}, {pcre}}}",
    }
    members += [f"pipemap:{{{one}, {two}}}", f"unionmap:{{{file}, {one}}}"]
    return {label: (table, MEMBER_KEYS) for label, table in tables.items()}, members


SMALL_KEYS = [*MEMBER_KEYS, *(f"user{number}@example.com" for number in range(80))]

# What stands in the name says all.
NAMED_TABLES = {
    "randmap one": ("randmap:{only}", SMALL_KEYS),
    "randmap braces": ("randmap:{{a b}}", SMALL_KEYS),
    "randmap blanks": ("randmap:{ {  a,  b } }", SMALL_KEYS),
    "randmap same": ("randmap:{same, same}", SMALL_KEYS),
    "fail": ("fail:whatever", SMALL_KEYS),
    "environ": ("environ:x", [*SMALL_KEYS, "PATH", "MAIL_CONFIG", "MAIL_LOGTAG", "HOME", "LANG"]),
}
RANDOM = "randmap:{one, two, {three four}, five}"
