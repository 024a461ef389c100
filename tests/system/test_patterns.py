"""cidr, regexp and pcre: tables: NO_REGSUB for each request, patterns that take for ever, files with
mistakes, large files, and the jail of their agents.

Runs as root inside tests/system/run. What is right in an answer is in test_differential_tables.py.
"""

import ipaddress
import os
import re

import harness
import proc
from harness import Workspace
from protocol import NOKEY, OK, RETRY, n_lookup, n_open, o_lookup, reply
from table_case import FAST, TableCase

PLAIN, NO_REGSUB, FOLD_MUL = 64, 64 | 2048, 64 | 32768
KINDS = ("cidr", "regexp", "pcre")


class PatternTest(TableCase):
    """Agents that match patterns."""

    def rules(self, kind, text, name=None):
        return f"{kind}:{self.put(name or kind, text)}"

    def test_substitution_per_request(self):
        """Of two clients of the same table, one that says NO_REGSUB never sees a rule that
        substitutes, and one that does not always does, in any order and from the same agents."""
        text = "/^(.*)@example$/ user $1\n/@/ a later rule\n/^(both) \\$$/ $1\n"
        tables = [self.rules(kind, text) for kind in ("regexp", "pcre")]
        tables.append("pcre:{{/^(.*)@example$/ user $1}, {/@/ a later rule}}")
        daemon = self.jailmapd([*((table, {"processes": 1}) for table in tables)])
        free, strict = self.clients(daemon, 2)
        for table in tables:
            self.eventually(free, table, "x@example", (OK, b"user x"))
            for _ in range(3):
                self.assertEqual(
                    strict.lookup(table, "x@example", NO_REGSUB), (OK, b"a later rule")
                )
                self.assertEqual(free.lookup(table, "x@example", PLAIN), (OK, b"user x"))
                self.assertEqual(strict.lookup(table, "both $", NO_REGSUB), (NOKEY, b""))
            found = strict.ask(o_lookup(table, "y@example", PLAIN))
            self.assertEqual(found, reply("status", OK, "value", "user y"))

    def test_substitution_in_the_new_dialect(self):
        """The same in the dialect of Postfix 3.11, where flags of the instance and of the request
        are apart: it counts in either, as the instance has lost those rules."""
        table = self.rules("pcre", "/^(.*)@example$/ user $1\n/@/ a later rule\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.eventually(client, table, "x@example", (OK, b"user x"))
        for instance in (0, NO_REGSUB):
            code, _ = client.call(n_open(table, instance))
            self.assertEqual(code, 0)
            found = client.call(n_lookup(table, "x@example", instance, NO_REGSUB))
            self.assertEqual((found[0], found[2]), (OK, b"a later rule"))
            found = client.call(n_lookup(table, "x@example", instance, PLAIN))
            expected = b"a later rule" if instance else b"user x"
            self.assertEqual((found[0], found[2]), (OK, expected))

    def test_folding(self):
        """A key is folded for these tables when FOLD_MUL asks for it, and so is what is
        substituted; FOLD_FIX does nothing."""
        table = self.rules("pcre", "/^(\\w+)@x$/i got $1\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.eventually(client, table, "abc@x", (OK, b"got abc"))
        self.assertEqual(client.lookup(table, "ABC@x", PLAIN), (OK, b"got ABC"))
        self.assertEqual(client.lookup(table, "ABC@X", PLAIN), (NOKEY, b""))
        self.assertEqual(client.lookup(table, "ABC@X", 64 | 16384), (NOKEY, b""))
        self.assertEqual(client.lookup(table, "ABC@X", FOLD_MUL), (OK, b"got abc"))

    def test_endless_pattern(self):
        """A pattern that would take for ever is a temporary error for the key that makes it so,
        never "not found", and the log says which file and line; other keys and tables go on."""
        text = "/^good$/ fine\n/^(a+)+$/ endless\n/^later$/ behind\n"
        table = self.rules("pcre", text)
        daemon = self.jailmapd([(table, {"processes": 2, "timeout": 5}), FAST])
        clients = self.clients(daemon, 6)
        self.settle(clients, table, {"good": b"fine"})
        agents = self.pool(daemon, "pattern", 2)
        hostile = "a" * 60 + "!"
        self.send_all(clients[:4], table, [hostile])
        for _ in range(5):
            self.assertEqual(clients[4].lookup(FAST, "fast"), (OK, b"yes"))
        self.assertEqual(set(self.receive_all(clients[:4])), {(RETRY, b"")})
        daemon.wait_log(rf'table "{re.escape(table)}".*{re.escape(self.path("pcre"))}:2\b')
        self.settle(clients, table, {"good": b"fine", "later": b"behind"})
        self.assertEqual(self.pool(daemon, "pattern", 2), agents)

    def test_bad_rules(self):
        """A rule with a mistake is left out, and no other; the log counts them and names the first
        by file and line; mended, it works without a restart."""
        texts = {
            "cidr": "1.1.1.1 first\n10.0.0.1/8 host bits\n10.0.0.0/99 length\n2.2.2.2 last\n",
            "regexp": "/^1/ first\n/(/ open\n/x/q flag\n/^2/ last\n",
            "pcre": "/^1/ first\n/(/ open\n/x/q flag\n/^2/ last\n",
        }
        good = {"cidr": "30.0.0.0/8 mended\n", "regexp": "/^30/ mended\n", "pcre": "/^30/ mended\n"}
        tables = {kind: self.rules(kind, text) for kind, text in texts.items()}
        daemon = self.jailmapd([*((table, {"processes": 1}) for table in tables.values())])
        client = self.client(daemon)
        for kind, table in tables.items():
            self.eventually(client, table, "1.1.1.1", (OK, b"first"))
            self.assertEqual(client.lookup(table, "2.2.2.2"), (OK, b"last"))
            path = re.escape(self.path(kind))
            daemon.wait_log(rf'table "{re.escape(table)}" .*2 ignored.*{path}:2\b')
        for kind, table in tables.items():
            self.put(kind, good[kind])
            self.eventually(client, table, "30.1.1.1", (OK, b"mended"), before=(NOKEY, b""))

    def test_replaced(self):
        """Rules that change are used at once and as a whole; while a file is missing the rules
        that were there stay; one that was never there is a temporary error until it comes."""
        table, missing = self.rules("pcre", "/^key$/ one\n"), f"regexp:{self.path('missing')}"
        daemon = self.jailmapd([table, missing])
        clients = self.clients(daemon, 10)
        self.settle(clients, table, {"key": b"one"})
        self.assertEqual(clients[0].lookup(missing, "key"), (RETRY, b""))
        self.put("pcre", "/^key$/ two\n")
        self.settle(clients, table, {"key": b"two"}, before=[(OK, b"one")])
        mark = daemon.mark()
        os.unlink(self.path("pcre"))
        daemon.wait_log(rf'table "{re.escape(table)}"', mark)
        self.settle(clients, table, {"key": b"two"})
        self.put("pcre", "/^key$/ three\n")
        self.settle(clients, table, {"key": b"three"}, before=[(OK, b"two")])
        self.put("missing", "/^key$/ come\n")
        self.settle(clients, missing, {"key": b"come"})

    def test_large_files(self):
        """10,000 networks and 1,000 expressions: the first that matches wins, whatever is behind
        it, for every client."""
        nets = [ipaddress.ip_network((167_772_160 + (n << 8), 24)) for n in range(10_000)]
        text = "".join(f"{net} net {n}\n" for n, net in enumerate(nets)) + "10.0.0.0/8 the rest\n"
        cidr = self.rules("cidr", "10.0.77.7 address first\n" + text + "0.0.0.0/0 all\n")
        words = "".join(f"/^user{n}@example\\.(com|org)$/ {n} in $1\n" for n in range(1000))
        pcre = self.rules("pcre", words + "/@example/ the rest\n")
        daemon = self.jailmapd([cidr, pcre])
        clients = self.clients(daemon, 20)
        expected = {str(nets[n][5]): b"net %d" % n for n in range(0, 10_000, 501)}
        expected.update(
            {"10.0.77.7": b"address first", "10.200.1.1": b"the rest", "9.9.9.9": b"all"}
        )
        self.settle(clients[:1], cidr, {"9.9.9.9": b"all"})
        self.settle([*clients, *self.clients(daemon, 5)], cidr, expected)
        expected = {f"user{n}@example.com": b"%d in com" % n for n in range(0, 1000, 67)}
        expected.update({"user1000@example.org": b"the rest"})
        self.settle(clients, pcre, expected)

    def test_long_keys(self):
        """Headers with line ends, and keys of 100,000 bytes, are matched as a whole."""
        table = self.rules("pcre", "/^Subject: .*needle$/ found\n/^long(x*)$/ $1\n")
        daemon = self.jailmapd([(table, {"processes": 1})])
        client = self.client(daemon)
        key = "Subject: a folded\n\theader with a needle"
        self.eventually(client, table, key, (OK, b"found"))
        self.assertEqual(
            client.lookup(table, "Subject: " + "y" * 100_000 + "needle"), (OK, b"found")
        )
        self.assertEqual(client.lookup(table, "Subject: " + "y" * 100_000), (NOKEY, b""))
        self.assertEqual(client.lookup(table, "long" + "x" * 100_000), (OK, b"x" * 100_000))

    @harness.not_sanitized("the jail is furnished with libraries there")
    def test_jail(self):
        """The agents are in the empty jail, with no capability, no way to new privileges, a filter,
        and no descriptors but those of their work."""
        tables = [self.rules(kind, "/x/ y\n") for kind in KINDS]
        daemon = self.jailmapd([*((table, {"processes": 2}) for table in tables)])
        client = self.client(daemon)
        for table in tables[1:]:
            self.eventually(client, table, "x", (OK, b"y"))
        jail = os.stat(os.path.join(daemon.runtime, "empty"))
        agents = self.pool(daemon, "pattern", 6)
        files = []
        for pid in agents:
            status = proc.status(pid)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(proc.capabilities(pid, kind), set(), kind)
            self.assertEqual(set(status["Uid"].split()), {str(harness.JAIL.pw_uid)})
            for place in ("root", "cwd"):
                found = os.stat(f"/proc/{pid}/{place}/")
                self.assertEqual((found.st_dev, found.st_ino), (jail.st_dev, jail.st_ino))
            kinds = proc.classify(pid)
            self.assertNotIn("foreign-socket", kinds.values())
            for fd, kind in kinds.items():
                self.assertRegex(kind, r"^(seqpacket.*|eventpoll|/.*)$")
                if kind.startswith("/") and kind != "/dev/null":
                    files.append(kind)
                    self.assertEqual(proc.descriptor_flags(pid, fd) & os.O_ACCMODE, os.O_RDONLY)
        # Whether they keep the file open is theirs; another's they never have.
        self.assertLessEqual(set(files), {table.partition(":")[2] for table in tables})
        self.assertLessEqual(len(files), len(agents))

    def test_private_file(self):
        """A file that only root may read is read, and what stands in it is in the memory of the
        table's agents only."""
        secret = os.urandom(12).hex()
        Workspace.write(self.directory, "private", f"/^key$/ {secret}\n", 0o600)
        table = f"regexp:{self.path('private')}"
        daemon = self.jailmapd([(table, {"processes": 2, "reveal": "existence"})])
        clients = self.clients(daemon, 10)
        self.settle(clients, table, {"key": b"key"})
        agents = self.pool(daemon, "pattern", 2)
        for pid, program in self.everyone(daemon).items():
            held = proc.alive(pid) and secret.encode() in proc.memory(pid)
            self.assertEqual(held, pid in agents, program)
