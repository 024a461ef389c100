"""What the tests of the table types ask, and Postfix's own answers to it.

Runs as root inside tests/system/run. The sources and the keys are made here, once for all types;
the answers come from Debian's postmap, which reads the table itself, without any server. Everything
is below the private directory of the run; the host's main.cf is never read.
"""

import concurrent.futures
import dataclasses
import os
import subprocess

import harness
from harness import Workspace, workspace
from protocol import OK, NOKEY, CONFIG, o_lookup
from waiting import LIMIT

LONG = 100 * 1024
BROKEN = "broken"  # postmap ends with a fatal error


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way in which Postfix asks: options of postmap, smtputf8_enable, what it then sends."""

    options: tuple
    utf8: bool
    flags: int
    folds: bool = False  # The client folds keys, and so does postmap without a server.

    @property
    def checks(self):
        """The client passes no key on, and takes no value, that is not UTF-8."""
        return self.utf8 and "-u" not in self.options

    def sends(self, key):
        """The key as the client sends it; None: it does not, and says that there is none."""
        if self.checks and not is_utf8(key):
            return None
        return fold(key) if self.folds else key

    def takes(self, code, value):
        """What the client makes of an answer."""
        return (CONFIG, b"") if self.checks and not is_utf8(value) else (code, value)

    def ask(self, client, table, key):
        """(status, value) as a Postfix client in this mode sees it, over the raw protocol."""
        sent = self.sends(key)
        return (NOKEY, b"") if sent is None else self.takes(*client.lookup(table, sent, self.flags))

    def ask_all(self, client, table, keys):
        """key -> ask(), some at a time: few enough for the sockets to hold them and their
        answers."""
        found = {key: (NOKEY, b"") for key in keys}
        asked = [key for key in keys if self.sends(key) is not None]
        while asked:
            some = asked[:40] if len(asked[0]) < 500 else asked[:1]  # The longest comes first.
            requests = [o_lookup(table, self.sends(key), self.flags) for key in some]
            client.send(b"".join(requests))
            for key in some:
                code, value = client.receive().split(b"\0")[1:-2:2]
                found[key] = self.takes(int(code), value)
            asked = asked[len(some) :]
        return found


MODES = {
    "default": Mode((), True, 524353, folds=True),
    "unfolded": Mode(("-f",), True, 524353),
    "bytes": Mode(("-u",), True, 16449),
    "bytes unfolded": Mode(("-u", "-f"), True, 65),
    "without UTF-8": Mode((), False, 540737),
    "without UTF-8 unfolded": Mode(("-f",), False, 524353),
}

# Options of postmap when it makes a database.
BUILDS = {
    "plain": (),
    "nul": ("-N",),
    "bare": ("-n",),
    "as-written": ("-f",),
    "as-written-nul": ("-f", "-N"),
    "bytes": ("-u",),
    "bytes-as-written": ("-u", "-f", "-n"),
    "silent": ("-w",),
    "replaced": ("-r",),
}


def is_utf8(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def fold(key):
    """Unicode's full case folding, which Postfix has from ICU, and Python has by itself."""
    return key.decode().casefold().encode()


# Logical lines as they stand in the file, without the last newline.
LINES = [
    b"# a comment, then lines that say nothing",
    b"",
    b" \t ",
    b"  # an indented comment",
    b"plain value",
    b"tabbed\tvalue behind a tab",
    b"inner  two  blanks,\tand a tab \t ",
    b"UPPER upper",
    b"Mixed@Example.COM mixed@Example.COM",
    b"example.com domain",
    b"@example.com whole domain",
    b".example.com below the domain",
    b"10.0.0 network",
    b"[::1] address",
    b"* star",
    b"a,b comma",
    b"{braces} {in braces}",
    b"%s %n%s%p",
    b"$name $$name ${name}",
    b"a#b # is no comment here",
    b"colon: with a colon",
    b"co:lon inner colon",
    b":colon leading colon",
    b"key=eq equals",
    b"=eq leading equals",
    b'"quoted key" quoted',
    b'half"quo ted"key half quoted',
    b'"" only quotes',
    b'"esc\\"aped quote" escaped',
    b"plain\\ esc escaped blank",
    b"back\\slash backslash",
    b"\\\\ two backslashes",
    b'open"quote this line is not taken',
    b'"never closed',
    b'value-quote "a value" in quotes',
    b"only-key",
    b"only-key-and-blanks  \t ",
    b"ends-in-backslash \\",
    b"first-line\n value behind a break",
    b"long one\n  continued\n\ttwo\n\n   three after blank\n# c\n  # d\n  four after comment",
    b"broken\r value with a return",
    b"crlf value\r",
    b"inner\rreturn value",
    b"form\ffeed value",
    b"vertical\vtab value",
    b"control\x01\x7fkey \x01\x02\x7f",
    b"dup first",
    b"dup second",
    b"Dup third",
    b"DUP2 first",
    b"dup2 second",
    b"twice same",
    b"twice same",
    "été summer".encode(),
    "ÉCOLE school".encode(),
    "école lower school".encode(),
    "straße street".encode(),
    "STRASSE2 street two".encode(),
    "GROẞ capital sharp s".encode(),
    "ıspanak dotless".encode(),
    "İstanbul dotted".encode(),
    "ΟΔΟΣ sigma".encode(),
    "λόγος final sigma".encode(),
    "ﬁle ligature".encode(),
    "oﬃce ligature of three".encode(),
    "Ǆ digraph".encode(),
    "ΐ three characters".encode(),
    "K kelvin".encode(),
    "Å angstrom".encode(),
    "ſ long s".encode(),
    "e\u0301 decomposed".encode(),
    "日本語 japanese".encode(),
    "Ⓐ circled".encode(),
    "𐐀 deseret".encode(),
    "Ა georgian".encode(),
    "Ꭰ cherokee".encode(),
    "ꭰ lower cherokee".encode(),
    "\u00a0 no-break space".encode(),
    "wide\u3000space ideographic".encode(),
    "zero\u200dwidth joiner".encode(),
    "\ufeffbom mark".encode(),
    "value-utf8 Größe 日本".encode(),
    b"\xc9t\xe9 latin-1",
    b"caf\xe9 latin-1",
    b"\xc0\xaf overlong",
    b"\xed\xa0\x80 surrogate",
    b"\xf4\x90\x80\x80 beyond Unicode",
    b"\xc3 cut short",
    "\U0010ffff last".encode(),
    "\ufdd0 noncharacter".encode(),
    b"nul\x00key value",
    b"nul-value some\x00thing",
    b"NUL-UPPER-value some\x00thing \xff",
    b"zero\x00",
    b"long-value " + b"v" * LONG,
    b"long-words " + b"word " * (LONG // 5),
    b"x" * 511 + b" 511 bytes",
    b"x" * 510 + b" 510 bytes",
    b"y" * 509 + b" 509 bytes",
]
LONG_LINES = [
    b"z" * 512 + b" 512 bytes",
    b"Z" * LONG + b" long upper",
    "É".encode() * (LONG // 2) + b" long accents",
]
# A key whose value only a client that does not check can take: postmap ends when it asks in vain.
BAD_VALUE = b"bad-value caf\xe9"


def source(kind, end=b""):
    """The awkward file. lmdb cannot store a key of more than 511 bytes, its NUL included."""
    limit = {"lmdb": 510}.get(kind)
    lines = [
        line
        for line in LINES + LONG_LINES
        if limit is None or len(line.split(b" ")[0].rstrip()) <= limit
    ]
    return b"\n".join(lines) + end


def written_keys(lines):
    """The keys of LINES, roughly: what is before the first blank or tab."""
    for line in lines:
        words = line.replace(b"\t", b" ").split(b" ")
        yield words[0]
        if words[0].count(b'"') == 1 or words[0].endswith(b"\\"):
            yield b" ".join(words[:2])


def spellings(key):
    """A key as people spell it: cases, Unicode's and ASCII's, and foldings."""
    yield key
    yield key.upper()
    yield key.lower()
    yield key.swapcase()
    if is_utf8(key):
        text = key.decode()
        for other in (text.upper(), text.lower(), text.title(), text.casefold(), text.swapcase()):
            yield other.encode()


def neighbours(key):
    """Keys that are not the key, but close to it."""
    yield key[:-1]
    yield key[1:]
    yield key + b"x"
    yield key + b" "
    yield b" " + key
    yield key + b"\t"
    yield key + b"\r"
    yield key + b":"
    yield key.rstrip(b":")
    yield key.replace(b'"', b"")
    yield key.replace(b"\\", b"")
    yield key.partition(b"\0")[0]


def keys(lines=None):
    """All keys to ask, once each. No key has a NUL or a newline: a line of postmap cannot."""
    asked = {
        b"",
        b" ",
        b"#",
        b"@",
        b"-",
        b"key",
        b"# a comment",
        b"continued",
        b"three",
        b"K",
        b"s",
    }
    asked |= {"ﬁ".encode(), b"file", b"FILE", b"office", b"i", b"I", "ss".encode(), b"x" * 20000}
    for key in written_keys(LINES + LONG_LINES if lines is None else lines):
        for spelling in spellings(key):
            asked.add(spelling)
            if len(key) < 1000:
                asked.update(neighbours(spelling))
    # The longest first: an answer is a key, a tab and a value, and a key may have a tab in it.
    return sorted(
        (key for key in asked if not set(key) & {0, 10}), key=lambda key: (-len(key), key)
    )


# Names of inline tables that Postfix takes.
INLINE = {
    "one": "{plain=value}",
    "spaces": "{  first=1 , second=2,third=3\tfourth=4,,fifth=5 , }",
    "groups": "{ {plain = value}, {two = two words}, { blanks =  kept  inside  }, {tight=1}}",
    "mixed": "{a=1, {b = two words} c=3,{d=x=y}, {e = a=b=c}, f==}",
    "empty": "{none=, {group = }, {blank =   }, other=value}",
    "braces": "{ {b1 = {x}}, {b2 = {x}{y}}, {b3 = {{z}}}, b4={v w}, {b5 = { }}, b6={} }",
    "quotes": '{ {"quoted key" = quoted}, {"a=b" = equals}, q="v", {p = "two words"}, {""=no} }',
    "escapes": "{ {esc\\ aped = blank}, back\\slash=1, {a\\=b = equals}, {end = v\\} }",
    "duplicates": "{dup=1, dup=2, {dup = 3}, Dup=4, DUP=5, UP=1, up=2, lo=1, LO=2}",
    "cases": "{UPPER=upper, lower=lower, MiXed=mixed, @Example.COM=domain}",
    "unicode": "{été=1, ÉCOLE=2, école=3, straße=4, STRASSE=5, ıI=6, İ=7, ΟΔΟΣ=8, ﬁ=9, fi=10, K=11}",
    "equals": "{=value, {= other value}}",
    "commas": "{ {list = a, b, c} }",
    "long": "{ {" + "k" * 3000 + " = " + "v" * 4000 + "} }",
    "many": "{" + ",".join(f"key{n}=value{n}" for n in range(400)) + "}",
    "signs": "{%s=%n, $n=$v, #=hash, *=star, a:b=c:d, {[::1] = x/y}, '=', ;=;}",
}
STATIC = {
    "word": "value",
    "words": "two words, and  blanks",
    "braces": "{ a, b }",
    "nothing": "{}",
    "blanks": "{   }",
    "inner": "{ {a} {b} }",
    "unicode": "Größe",
    "colon": "a:b:c",
    "equals": "{a=b}",
    "behind": "a {b",
    "quote": 'a "quoted" \\ word',
    "long": "v" * 8000,
}
# Names that Postfix cannot take; a client of its proxymap gets RETRY.
NOT_INLINE = (
    "{}",
    "{ }",
    "{,}",
    "plain",
    "a=b",
    "{a=b",
    "a=b}",
    "{a=b}}",
    "{a=b} ",
    " {a=b}",
    "{a=b}{c=d}",
    "{a}",
    "{a=b, c}",
    "{ {a b = c} }",
    "{ {a = b}x }",
    "{ {a} }",
    '{"a=b}',
    '{ {"a = b} }',
    '{a"=b, c=d}',
)
NOT_STATIC = ("{", "{a", "{a}}", "{a}b", "{a} ", "{a}{b}")


def inline_keys(name):
    """Keys to ask an inline table: everything in the name that could be one."""
    text = name.replace("{", " ").replace("}", " ").replace(",", " ").replace("\t", " ")
    lines = [word.partition("=")[0].encode() for word in text.split()]
    lines += [word.encode() for word in text.split()]
    return lines


class Reference:
    """Debian's postmap with configurations of its own, which know jailmapd as their map server."""

    def __init__(self):
        self.queue = workspace().directory("types-queue")
        os.mkdir(os.path.join(self.queue, "private"))
        self.socket = os.path.join(self.queue, "private/jailmap")
        self.config = {}
        for utf8 in (True, False):
            self.config[utf8] = workspace().directory("types-config")
            Workspace.write(
                self.config[utf8],
                "main.cf",
                "compatibility_level = 3.6\nmaillog_file =\n"
                f"smtputf8_enable = {'yes' if utf8 else 'no'}\n"
                f"queue_directory = {self.queue}\nproxymap_service_name = jailmap\n",
            )

    def postmap(self, utf8, *arguments, stdin=b""):
        """(exit status, stdout as bytes, stderr)"""
        done = subprocess.run(
            ["/usr/sbin/postmap", "-c", self.config[utf8], *arguments],
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
            check=False,
            env={"PATH": harness.PATH},
            cwd="/",
        )
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def build(self, table, *options):
        code, _, errors = self.postmap(True, *options, table)
        if code != 0:
            raise AssertionError(f"postmap {table}: {errors[-2000:]}")

    def output(self, mode, table, asked):
        """What postmap prints when it is asked for many keys; raises when it ends before the
        last."""
        stdin = b"".join(key + b"\n" for key in asked)
        code, out, errors = self.postmap(mode.utf8, *mode.options, "-q", "-", table, stdin=stdin)
        if "fatal:" in errors or code not in (0, 1):
            raise AssertionError(f"postmap {mode.options} {table}: {code} {errors[-2000:]}")
        return out

    def answers(self, mode, table, asked):
        """key -> (status, value), for many keys."""
        lines = iter(self.output(mode, table, asked).split(b"\n")[:-1])
        line, found = next(lines, None), {}
        for key in asked:
            if line is not None and line.startswith(key + b"\t"):
                found[key] = (OK, line[len(key) + 1 :])
                line = next(lines, None)
            else:
                found[key] = (NOKEY, b"")
        if line is not None:
            raise AssertionError(f"postmap printed what was not asked for: {line[:100]!r}")
        return found

    def answer(self, mode, table, key):
        """(status, value) of one key in a process of its own, or BROKEN."""
        code, out, errors = self.postmap(mode.utf8, *mode.options, "-q", key, table)
        if "fatal:" in errors or code not in (0, 1):
            return BROKEN
        return (OK, out[:-1]) if code == 0 else (NOKEY, b"")

    def each(self, cases):
        """answer() of many (mode, table, key), some at a time: a postmap that fails waits first."""
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda case: self.answer(*case), cases))
