"""jailmapd answers byte for byte what Debian's own proxymap answers, except where it means not to.

Both read the same table files. Debian's proxymap runs in a private Postfix with max_use = 1, and
every exchange waits until the process of the exchange before it has gone, so that what proxymap
remembers between clients (flags learned, cursors) never decides an answer. An exchange sends its
bytes, waits until the server has read them all, then sends one known lookup; everything that
arrives before the answer to that is the answer to the bytes, which makes "no reply" a fact and not
a matter of waiting. The differences that are meant are one list, DIFFERENCES, each with its reason
and both answers.
"""

import itertools
import unittest

import cases
import harness
import private_postfix
import proc
import protocol
from protocol import OK, o_lookup, o_sequence, reply, Closed
from waiting import Hung, wait_for


class DifferentialTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(lambda: [part.stop() for part in (cls.postfix, cls.jailmapd)])
        cls.postfix = cls.jailmapd = None
        cls.tables = t = cases.Tables()
        cls.postfix = private_postfix.Postfix(
            "reference",
            {
                "proxy_read_maps": " ".join("proxy:" + name for name in t.approved),
                "proxy_write_maps": " ".join("proxy:" + name for name in t.binary),
                "smtputf8_enable": "yes",
            },
            ["proxymap unix - - n - - proxymap -o max_use=1", "proxywrite unix - - n - 1 proxymap"],
        ).start()
        t.fill(cls.postfix.private("proxywrite"))
        cls.jailmapd = harness.Jailmapd("differential", tables=t.approved).start()
        cls.probe = o_lookup(t.probe, "the-probe", 64)
        cls.probed = reply("status", OK, "value", "the-answer-to-the-probe")

    def connect(self, server):
        if server is self.jailmapd:
            return server.client()

        # The read service is the proxymap that has no -n option: its name is the program's.
        def reader(pid):
            return proc.program(pid) == "proxymap" and "proxywrite" not in proc.arguments(pid)

        def ended():
            master = server.process.pid
            return not any(map(reader, proc.some_children(master))) and not any(
                map(reader, proc.children(master))
            )

        wait_for(ended, "the proxymap process of the last exchange to end")
        return protocol.Client(server.private("proxymap"))

    def exchange(self, server, parts):
        """What a server answers to the parts, as bytes; with the word that the connection ended
        when it did."""
        answer = b""
        with self.connect(server) as client:
            try:
                for part in parts:
                    if part is cases.READ:
                        answer += client.receive()
                    elif part is cases.EOF:
                        client.half_close()
                        return answer + client.receive_all() + b"<end>"
                    else:
                        client.send(part)
                        client.drained()
                client.send(self.probe)
                return answer + client.receive_until(self.probed)
            except Closed as closed:
                return (
                    answer
                    + (closed.args[0] if isinstance(closed.args[0], bytes) else b"")
                    + b"<end>"
                )
            except (BrokenPipeError, ConnectionResetError):
                return answer + b"<end>"
            except Hung:
                return answer + bytes(client.buffer) + cases.HUNG

    def reference(self, parts):
        """proxymap drops a request that takes a second to arrive; on a busy machine that can be
        ours, so try again."""
        for _ in range(3):
            answer = self.exchange(self.postfix, parts)
            if not answer.endswith(cases.HUNG):
                break
        return answer

    def same(self, sequences):
        problems, count = [], 0
        for name, parts in sequences:
            count += 1
            expected, found = self.reference(parts), self.exchange(self.jailmapd, parts)
            if expected != found:
                sent = " + ".join(
                    cases.show(part)
                    if isinstance(part, bytes)
                    else ("(read)" if part is cases.READ else "(half-close)")
                    for part in parts
                )
                problems.append(
                    f"{name}\n   sent     {sent}\n"
                    f"   proxymap {cases.show(expected)}\n   jailmapd {cases.show(found)}"
                )
                if found.endswith(cases.HUNG):
                    problems.append("the rest of this kind was not tried: waiting takes long")
                    break
        if problems:
            self.fail(f"{len(problems)} of {count} answers differ\n" + "\n".join(problems[:40]))
        self.assertGreater(count, 0)

    def test_size(self):
        """The two servers are compared on more than 200 different byte sequences (splits and
        half-closes not counted)."""
        sent = {
            b"".join(part for part in parts if isinstance(part, bytes))
            for category in cases.CATEGORIES
            if category not in (cases.splits, cases.halves)
            for _, parts in category(self.tables)
        }
        self.assertGreater(len(sent), 200)

    def test_no_reply(self):
        """Lists that are no request get no reply, and the next request is answered."""
        for name, parts in itertools.islice(cases.no_reply(self.tables), 14):
            self.assertEqual(self.exchange(self.jailmapd, parts), b"", name)
        self.same(cases.no_reply(self.tables))

    def test_unknown_requests(self):
        """Unknown and misspelt requests, with and without attributes: BAD as proxymap says it."""
        self.same(cases.unknown_requests(self.tables))

    def test_truncated_requests(self):
        """Each request kind with too few attributes: the BAD reply of that kind."""
        self.same(cases.truncated_requests(self.tables))

    def test_reshaped_requests(self):
        """Each attribute of each request missing, doubled, moved, renamed, emptied, or with a
        foreign one before it."""
        self.same(cases.reshaped_requests(self.tables))

    def test_extra_attributes(self):
        """Attributes after the last expected one are ignored, also when they arrive in parts."""
        self.same(cases.extra_attributes(self.tables))

    def test_bad_numbers(self):
        """What is no number is BAD in each request."""
        self.same(cases.bad_numbers(self.tables))

    def test_good_numbers(self):
        """Leading zeros and unknown high bits are accepted."""
        self.same(cases.good_numbers(self.tables))

    def test_table_names(self):
        """proxy: prefixes are stripped, names are compared byte for byte, and refusals have the
        form of their request."""
        self.same(cases.table_names(self.tables))

    def test_refused_changes(self):
        """update and delete are refused by the read service before it looks at the table, and
        change nothing."""
        self.same(cases.refused_changes(self.tables))

    def test_opens(self):
        """open replies show the flags that were sent and the bits of the table type."""
        self.same(cases.opens(self.tables))

    def test_lookups(self):
        """Hits and misses on hash and btree with the flags of real clients."""
        self.same(cases.lookups(self.tables))

    def test_folding(self):
        """A lookup folds ASCII when the request asks for it, and nothing else."""
        self.same(cases.folding(self.tables))

    def test_stored_forms(self):
        """Tables stored with and without a trailing NUL, with the flags that force one form."""
        self.same(cases.stored_forms(self.tables))

    def test_odd_keys(self):
        """Binary keys and values, keys of 128 KiB and 1 MiB, header lines, empty values, a value of
        3 MB."""
        self.same(cases.odd_keys(self.tables))

    def test_users_and_groups(self):
        """Every user and group of this system, and names that are none."""
        self.same(cases.users_and_groups(self.tables))

    def test_failing(self):
        """Missing, damaged, truncated and mistyped tables are temporary errors and hurt no other
        table."""
        self.same(cases.failing(self.tables))

    def test_typed_opens(self):
        """open replies for cdb, lmdb, texthash, inline and static."""
        self.same(cases.typed_opens(self.tables))

    def test_typed_lookups(self):
        """Lookups in cdb, lmdb, texthash, inline and static by clients that open first."""
        self.same(cases.typed_lookups(self.tables))

    def test_typed_failing(self):
        """Missing files and names that cannot be read, of each type."""
        self.same(cases.typed_failing(self.tables))

    def test_typed_sequences(self):
        """sequence goes over the same entries of lmdb, texthash and inline; of lmdb, in the same
        order."""
        for table in self.tables.typed:
            if table.startswith(("cdb:", "static:")):
                continue
            walks = []
            for server in (self.postfix, self.jailmapd):
                with self.connect(server) as client:
                    walk = [client.ask(o_sequence(table, 0, 64))]
                    while walk[-1].startswith(b"status\0000\0"):
                        walk.append(client.ask(o_sequence(table, 1, 64)))
                    walks.append(walk)
            if not table.startswith("lmdb:"):  # The order of proxymap is that of its memory.
                walks = [sorted(walk) for walk in walks]
            self.assertEqual(*walks, table)
            self.assertGreater(len(walks[0]), 4)

    def test_halves(self):
        """A client that half-closes after any byte of a request gets the same bytes and then end of
        file."""
        self.same(cases.halves(self.tables))

    def test_splits(self):
        """A request cut at any byte into separate reads is answered like a whole one."""
        self.same(cases.splits(self.tables))

    def test_mutations(self):
        """250 random malformations, the same in each run."""
        self.same(cases.mutations(self.tables))

    def test_sequences(self):
        """sequence goes over whole tables in the same order, and past their end."""
        t = self.tables
        for table in (
            *t.large,
            t.plain,
            t.tree,
            *t.nul,
            *t.bare,
            *t.mixed,
            *t.empty,
            *t.binary,
            t.aliases,
        ):
            transcripts = []
            for server in (self.postfix, self.jailmapd):
                with self.connect(server) as client:
                    transcript = [client.ask(o_sequence(table, 0, 64))]
                    while transcript[-1].startswith(b"status\0000\0"):
                        transcript.append(client.ask(o_sequence(table, 1, 64)))
                    transcript.append(client.ask(o_sequence(table, 1, 64)))
                    transcript.append(client.ask(o_sequence(table, 0, 64)))
                    transcript.append(client.ask(o_lookup(t.probe, "the-probe", 64)))
                    transcripts.append(transcript)
            expected, found = transcripts
            self.assertEqual(len(expected), len(found), f"entries of {table}")
            for index, (left, right) in enumerate(zip(expected, found)):
                self.assertTrue(
                    left == right,
                    f"{table} entry {index}: "
                    f"proxymap {cases.show(left)}, jailmapd {cases.show(right)}",
                )

    def test_differences(self):
        """The intended differences, each with its reason: both answers are as stated."""
        problems = []
        for name, reason, parts, theirs, ours in cases.differences(self.tables):
            if theirs is not cases.UNTOLD:
                found = self.reference(parts)
                if found != (b"<end>" if theirs is cases.DIES else theirs):
                    problems.append(
                        f"{name} ({reason})\n"
                        f"   stated for proxymap {cases.show(theirs)}\n   found {cases.show(found)}"
                    )
            if ours is not cases.UNTOLD:
                found = self.exchange(self.jailmapd, parts)
                if found != ours:
                    problems.append(
                        f"{name} ({reason})\n"
                        f"   stated for jailmapd {cases.show(ours)}\n   found {cases.show(found)}"
                    )
        self.assertFalse(problems, "\n".join(problems))
