"""What `jailmap import` prints is what Debian's own proxymap approves, and jailmapd takes it.

Each configuration here is one that an administrator could have written, most of them awkward. For
each, a private Postfix runs its own proxymap, which is asked for every name that import printed, for
the names that the test knows to be approved or not, and for near misses of all of them; jailmapd
with the imported policy is asked the same. Runs as root inside tests/system/run; files are below the
private directory of the run.
"""

import os
import re
import unittest

import harness
import private_postfix
import protocol
import test_postfix
from harness import Workspace, workspace
from protocol import DENY, OK, o_open, reply
from waiting import wait_for

PROXYMAP = "proxymap unix - - n - - proxymap -o max_use=1"
OPENED = reply("status", OK)[:-1]
DENIED = reply("status", DENY)[:-1]


def unescape(text):
    """A name as jailmapd.conf(5) reads it in double quotes; its bytes are UTF-8."""
    text = re.sub(
        r'\\(x[0-9a-f]{2}|["\\])',
        lambda found: chr(int(found[1][1:], 16)) if found[1][0] == "x" else found[1],
        text,
    )
    return text.encode("latin-1").decode()


def printed_tables(policy):
    """({name: (comment above it, options)} of the tables, the same of those that are not
    served)."""
    served, unserved = {}, {}
    form = re.compile(r'# ([^\n]*)\n(?:# [^\n]*\n)*(#?)table "((?:\\.|[^"\\])*)" \{ ([^}]*)\}\n')
    for comment, mark, name, options in form.findall(policy):
        (unserved if mark else served)[unescape(name)] = (comment, options.strip())
    return served, unserved


def denied_tables(policy):
    """{name: parameters} of the tables that are named in vain."""
    found = re.findall(r"^#     (.*) # (.*)$", policy, re.M)
    return {unescape(name): parameters for name, parameters in found}


class Import(harness.Case):
    """A private Postfix and its import."""

    def postfix(self, main, services=(PROXYMAP,)):
        postfix = private_postfix.Postfix("import", main, list(services))
        self.addCleanup(postfix.stop)
        Workspace.write(postfix.config, "master.cf", "".join(line + "\n" for line in services))
        return postfix

    def imported(self, *arguments, status=0):
        """What `jailmap import ARGUMENTS` prints."""
        code, out, self.errors = harness.run([workspace().jailmap, "import", *arguments])
        self.assertEqual(code, status, self.errors)
        return out

    def complete(self, policy):
        """The policy with the run's own user and directories in front, as a running jailmapd."""
        daemon = harness.Jailmapd("imported")
        text = harness.config_text(daemon.runtime, allow={}) + policy
        Workspace.write(daemon.directory, "jailmapd.conf", text)
        daemon.socket = re.search(r'^listen "(.*)" \{$', policy, re.M)[1]
        self.addCleanup(daemon.stop)
        return daemon

    def ask(self, path, name):
        """What the server at the end of a socket says to an open request. A process of proxymap
        ends after each client, and so does its connection when that comes too late."""

        def answer():
            try:
                with protocol.Client(path) as client:
                    client.send(o_open(name, 0))
                    return client.receive()
            except (protocol.Closed, ConnectionError):
                return None

        return wait_for(answer, f"an answer to open {name[:60]!r}")

    def compare(self, main, services=(PROXYMAP,), *, approved, denied=(), unserved=(), members=()):
        """Imports, and holds what is printed against the lists, Postfix's proxymap and jailmapd.
        members: of what is approved, those that Postfix opens for a composite only. Returns the
        policy."""
        postfix = self.postfix(main, services)
        policy = self.imported("-c", postfix.config)
        served, others = printed_tables(policy)
        self.assertEqual(list(served), list(approved))
        self.assertEqual(list(others), list(unserved))
        known = [*served, *others]
        misses = {name + "x" for name in known} | {name[:-1] for name in known}
        misses |= {" ".join(name.split()) for name in known}
        misses = sorted(name for name in {*misses, *denied} - set(known) if ":" in name)
        daemon = self.complete(policy)
        code, out, errors = harness.run([workspace().jailmapd, "-n", "-c", daemon.config])
        self.assertEqual(code, 0, out + errors)
        daemon.start()
        postfix.start()
        for name in known:
            answer = self.ask(postfix.private("proxymap"), name)
            expected = DENIED if name in members else OPENED
            self.assertTrue(answer.startswith(expected), f"proxymap: {name!r}: {answer!r}")
        for name in misses:
            answer = self.ask(postfix.private("proxymap"), name)
            self.assertTrue(answer.startswith(DENIED), f"proxymap: {name!r}: {answer!r}")
        for name in [*known, *misses]:
            answer = self.ask(daemon.socket, name)
            expected = OPENED if name in served else DENIED
            self.assertTrue(answer.startswith(expected), f"jailmapd: {name!r}: {answer!r}")
        return policy


class ReferenceTest(Import):
    def test_default(self):
        """A main.cf without tables of its own approves the users that Postfix's default names, and
        of them only that they exist."""
        policy = self.compare(
            {},
            approved=["unix:passwd.byname"],
            denied=["unix:group.byname", "hash:/etc/aliases", "static:all"],
        )
        self.assertEqual(
            printed_tables(policy)[0]["unix:passwd.byname"],
            ("local_recipient_maps", "reveal = existence"),
        )
        self.assertIn('allow "postfix" {', policy)
        self.assertIn('allow "root" {', policy)

    def test_braces_and_composites(self):
        """Groups in braces approve their first word, and unionmap and pipemap approve their members
        however deep, but not themselves unless proxy: stands before them; then jailmapd has to
        approve the members, too."""
        main = {
            "local_recipient_maps": "",
            "virtual_alias_maps": "unionmap:{proxy:texthash:/in/u1, pipemap:{proxy:hash:/in/p1"
            " proxy:proxy:hash:/in/p2}} unionmap:{proxy:hash:/no/tail}x"
            " {unionmap:{proxy:hash:/in/bu} w} unionmap:{ {unionmap:{proxy:hash:/in/deep} q} }"
            " proxy:hash:/in/next {} {   } unionmap:{} unionmap: {proxy:hash:/in/sp}",
            "relay_domains": "unionmap:{proxy:hash:/in/un, {proxy:hash:/in/ub x}, hash:/no/y}"
            " UNIONMAP:{proxy:hash:/no/upper} { {proxy:hash:/no/dbl} } {{proxy:hash:/no/dbl2}}"
            " {proxy:hash:/in/c1,proxy:hash:/no/c2} { , proxy:hash:/in/lead }"
            " unionmap:x{proxy:hash:/no/mid} pipemap:{{proxy:hash:/no/e1}x}",
            "transport_maps": "proxy:hash:/in/str}ay, a}proxy:hash:/no/stray2"
            " proxy:unionmap:{proxy:hash:/m/1,proxy:hash:/m/2}"
            " { proxy:hash:/in/last } } proxy:hash:/in/after"
            " }proxy:hash:/no/stray {proxy:hash:/no/open",
        }
        inside = "u1 p1 p2 bu deep next sp un ub c1 lead str}ay after last"
        order = ["texthash:/in/u1", *(f"hash:/in/{n}" for n in "p1 p2 bu deep next sp".split())]
        # In the order of proxy_read_maps, where transport_maps comes last.
        order += [f"hash:/in/{n}" for n in "un ub c1 lead str}ay".split()]
        whole = "unionmap:{proxy:hash:/m/1,proxy:hash:/m/2}"
        members = ["hash:/m/1", "hash:/m/2"]
        policy = self.compare(
            main,
            approved=[*order, whole, "hash:/in/last", "hash:/in/after", *members],
            members=members,
            denied=[
                *(f"hash:/no/{n}" for n in "tail y upper dbl dbl2 c2 mid e1 stray2".split()),
                *(f"hash:/no/{n}" for n in "stray open".split()),
                "unionmap:{proxy:hash:/m1,proxy:hash:/m2}",
                "unionmap:{}",
                "pipemap:{proxy:hash:/in/p1 proxy:proxy:hash:/in/p2}",
            ],
        )
        self.assertEqual(len(inside.split()), len(order) + 2)
        self.assertEqual(printed_tables(policy)[0]["hash:/m/2"][0], whole)
        self.assertEqual(printed_tables(policy)[0]["hash:/in/c1"][0], "relay_domains")
        # virtual_alias_maps and transport_maps stand there twice, by way of other parameters.
        for words in (
            r"no/tail\}x\" is skipped, as Postfix does: there is something",
            r"no/e1\}x\" is skipped, as Postfix does: there is something",
            r"no/open static:\*\" is skipped, as Postfix does: a \} is missing",
        ):
            self.assertRegex(self.errors, words)

    def test_restriction_classes(self):
        """Postfix 3.7 does not approve what only a restriction class names; the policy says so, and
        what proxy_read_maps names through a class carries that name."""
        policy = self.compare(
            {
                "local_recipient_maps": "",
                "smtpd_restriction_classes": "strict, lax named",
                "strict": "check_client_access proxy:hash:/class/only, reject",
                "named": "check_sender_access proxy:hash:/class/named",
                "smtpd_recipient_restrictions": "strict, check_recipient_access"
                " proxy:hash:/direct, reject_unauth_destination",
                "lax": "permit",
                "smtpd_data_restrictions": "check_helo_access proxy:hash:/data",
                "proxy_read_maps": "$smtpd_recipient_restrictions ${named} $lax $undefined_here",
            },
            approved=["hash:/direct", "hash:/class/named"],
            denied=["hash:/class/only", "hash:/data"],
        )
        self.assertEqual(
            denied_tables(policy),
            {
                "hash:/class/only": "strict (restriction class)",
                "hash:/data": "smtpd_data_restrictions",
            },
        )
        self.assertIn("Postfix before 3.11 does not approve", policy)
        self.assertEqual(
            printed_tables(policy)[0]["hash:/class/named"][0], "named (restriction class)"
        )

    def test_override_of_the_list(self):
        """proxy_read_maps on the proxymap line of master.cf replaces that of main.cf; overrides of
        other services approve nothing and are told of."""
        policy = self.compare(
            {
                "virtual_alias_maps": "proxy:hash:/main/alias",
                "proxy_write_maps": "proxy:btree:/main/written",
                "address_verify_map": "proxy:btree:/main/written",
            },
            [
                PROXYMAP + " -o { proxy_read_maps = proxy:hash:/over/a, $virtual_alias_maps\n"
                "   proxy:inline:{ {x =   y z},\n"
                "      {q = r} } }",
                "submission unix n - n - - smtpd -o"
                " smtpd_client_restrictions=check_client_access,proxy:hash:/over/no",
                "other unix n - n - - smtpd -o proxy_read_maps=proxy:hash:/over/no2",
            ],
            approved=[
                "hash:/over/a",
                "hash:/main/alias",
                "inline:{ {x =   y z},      {q = r} }",
            ],
            denied=["unix:passwd.byname", "hash:/over/no", "hash:/over/no2", "btree:/main/written"],
        )
        self.assertEqual(
            denied_tables(policy),
            {
                "hash:/over/no": "submission/unix/smtpd_client_restrictions",
                "unix:passwd.byname": "local_recipient_maps",
            },
        )
        self.assertEqual(printed_tables(policy)[0]["hash:/over/a"][0], "proxy_read_maps")
        self.assertEqual(printed_tables(policy)[0]["hash:/main/alias"][0], "virtual_alias_maps")

    def test_override_of_what_the_list_refers_to(self):
        """An override of another parameter on the proxymap line counts where proxy_read_maps refers
        to it, and the value that the other services have is denied."""
        policy = self.compare(
            {
                "local_recipient_maps": "",
                "virtual_alias_maps": "proxy:hash:/main/alias",
                "relay_domains": "$mine",
                "mine": "proxy:hash:/main/mine",
            },
            [PROXYMAP + " -o virtual_alias_maps=proxy:hash:/over/alias -o mine=proxy:hash:/over/m"],
            approved=["hash:/over/alias", "hash:/over/m"],
            denied=["hash:/main/alias", "hash:/main/mine"],
        )
        self.assertEqual(
            denied_tables(policy),
            {
                "hash:/main/alias": "virtual_alias_domains, virtual_alias_maps",
                "hash:/main/mine": "fast_flush_domains, mine, relay_domains",
            },
        )

    def test_inline(self):
        """Tables in their own names keep every byte: commas, blanks in a row, tabs, lines that
        continue, quotes, backslashes, $$ and bytes that are not ASCII."""
        self.compare(
            {
                "local_recipient_maps": "",
                "virtual_alias_maps": "proxy:inline:{ {a =  b  c},\n\t\t {d = e\tf}\n   }  "
                "proxy:inline:{a=b, c=d}, proxy:inline:{{a=b}}",
                "relay_domains": 'proxy:inline:{ {k = "a", \\b} }, proxy:static:$$x,'
                " proxy:inline:{ { $$y =  $${z} } } proxy:inline:{\xe9t\xe9=\xff}",
                "words": "more\n  words",
                "far": "$words",
                "relocated_maps": "proxy:inline:{k=$far}",
                "transport_maps": "proxy:inline:{ {$mine =  $(mine)} ,\n#comment\n\n  {x=y} }"
                " ${mine?{proxy:static:yes}:{proxy:static:no}} proxy:static:${mine}s",
                "mine": "word",
            },
            approved=[
                "inline:{ {a =  b  c},\t\t {d = e\tf}   }",
                "inline:{a=b, c=d}",
                "inline:{{a=b}}",
                'inline:{ {k = "a", \\b} }',
                "static:$x",
                "inline:{ { $y =  ${z} } }",
                "inline:{\xe9t\xe9=\xff}",
                "inline:{k=more  words}",
                "inline:{ {word =  word} ,  {x=y} }",
                "static:yes",
                "static:words",
            ],
            denied=[
                "inline:{ {a = b c}, {d = e f} }",
                "inline:{a=b,c=d}",
                "static:$$x",
                "static:no",
                "static:word",
            ],
        )

    def test_separators_and_types(self):
        """Repeated proxy:, commas and white space in any mixture, lines that continue, and types
        that jailmapd does not serve: those are printed as comments, with who names them."""
        policy = self.compare(
            {
                "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps",
                "alias_maps": "hash:/plain, proxy:proxy:hash:/al,,",
                "virtual_alias_maps": ",proxy:proxy:proxy:hash:/v1,\t,proxy:lmdb:/v2\n"
                "# proxy:hash:/comment\n    ,proxy:cdb:/v3\n\tproxy:btree:/v4",
                "virtual_mailbox_maps": "proxy:unix:passwd.byname proxy:hash:relative proxy:nocolon"
                " proxy: PROXY:hash:/upper",
                "header_checks": "proxy:ldap:/checks proxy:regexp:/checks",
                "mynetworks": "127.0.0.0/8, [::1]/128 /etc/networks proxy:cidr:/nets",
                "canonical_maps": "proxy:hash:/dots/../x proxy:hash://double proxy:unix:aliases",
            },
            approved=[
                "unix:passwd.byname",
                "hash:/al",
                "hash:/v1",
                "lmdb:/v2",
                "cdb:/v3",
                "btree:/v4",
                "cidr:/nets",
                "regexp:/checks",
            ],
            unserved=[
                "hash:relative",
                "hash:/dots/../x",
                "hash://double",
                "unix:aliases",
                "ldap:/checks",
            ],
            denied=["hash:/plain", "hash:/comment", "hash:/upper", "cidr:/etc/networks"],
        )
        served, unserved = printed_tables(policy)
        self.assertEqual(
            served["unix:passwd.byname"],
            ("local_recipient_maps, virtual_mailbox_maps, virtual_mailbox_domains", ""),
        )
        self.assertEqual(served["hash:/al"][0], "local_recipient_maps, alias_maps")
        self.assertEqual(
            unserved["ldap:/checks"][0], "header_checks, mime_header_checks, nested_header_checks"
        )
        self.assertRegex(self.errors, "cannot serve 5 of the 13 tables")


class SwitchTest(Import):
    def test_switch(self):
        """A Postfix with a chrooted smtpd and no proxymap works with nothing but the policy that
        import printed: users, aliases in a file, and a table whose name has blanks in a row."""
        virtual = self.table("virtual", "sales@v.test root@mx.test\n")
        postfix = private_postfix.Postfix(
            "switch",
            {
                "proxymap_service_name": "jailmap",
                "mydestination": "mx.test",
                "local_recipient_maps": "proxy:unix:passwd.byname",
                "virtual_alias_domains": "v.test",
                "virtual_alias_maps": f"unionmap:{{proxy:{virtual}, proxy:inline:"
                "{ {info@v.test =\n\troot@mx.test,   nobody@mx.test} }}",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtpd_error_sleep_time": "0",
            },
            [line for line in test_postfix.SERVICES if "LATE" not in line],
        )
        self.addCleanup(postfix.stop)
        Workspace.write(postfix.config, "master.cf", "")
        policy = self.imported("-c", postfix.config)
        self.assertIn('{info@v.test =\\x09root@mx.test,   nobody@mx.test} }" { }', policy)
        daemon = self.complete(policy).start()
        postfix.start()
        with private_postfix.Smtp(postfix.ports[0]) as session:
            for known in ("root@mx.test", "sales@v.test", "info@v.test"):
                session.expect("250", session.recipient(known))
            for unknown in ("no-such-user@mx.test", "no@v.test"):
                session.expect("550", session.recipient(unknown))
        self.assertNotIn("denied", daemon.log())


class ToolTest(Import):
    MAIN = {"local_recipient_maps": "", "virtual_alias_maps": "proxy:hash:/a proxy:static:b"}

    def script(self, text):
        path = Workspace.write(self.directory, "postconf", "#!/bin/sh\n" + text, 0o755)
        return f"--postconf={path}"

    def diff(self, postfix, policy, status):
        path = self.complete(policy).config
        return self.imported("--diff", "-c", postfix.config, "-f", path, status=status)

    def test_diff(self):
        """--diff says nothing and 0 of a policy that agrees, and + and - with 1 of one that does
        not."""
        postfix = self.postfix(self.MAIN)
        policy = self.imported("-c", postfix.config)
        self.assertEqual(self.diff(postfix, policy, 0), "")
        other = policy.replace('"hash:/a"', '"btree:/a\\\\\\""')
        self.assertEqual(
            self.diff(postfix, other, 1),
            '+ hash:/a  (virtual_alias_maps, virtual_alias_domains)\n- btree:/a\\\\\\"\n',
        )
        self.assertEqual(
            self.diff(postfix, 'listen "/x" {\n}\n', 1),
            "+ hash:/a  (virtual_alias_maps, virtual_alias_domains)\n"
            "+ static:b  (virtual_alias_maps, virtual_alias_domains)\n",
        )

    def test_diff_with_what_is_in_force(self):
        """Without a file, --diff compares with the policy of the daemon: with a new one after a
        reload, and not before it; 69 says that nobody is there."""
        postfix = self.postfix(self.MAIN)
        daemon = self.complete(self.imported("-c", postfix.config))
        command = ["--diff", "-c", postfix.config, "-d", daemon.runtime]
        self.imported(*command, status=69)
        daemon.start()
        self.assertEqual(self.imported(*command, status=0), "")
        with open(daemon.config, encoding="utf-8") as file:
            text = file.read()
        Workspace.write(
            daemon.directory, "jailmapd.conf", text.replace('"static:b"', '"static:c"')
        )
        self.assertEqual(self.imported(*command, status=0), "", "not in force yet")
        tool = [workspace().jailmap, "reload", "-d", daemon.runtime]
        self.assertEqual(harness.run(tool)[0], 0)
        self.assertEqual(
            self.imported(*command, status=1),
            "+ static:b  (virtual_alias_maps, virtual_alias_domains)\n- static:c\n",
        )

    def test_diff_with_a_bad_policy(self):
        """--diff with a policy that is missing or wrong says which file, and is neither 0 nor 1."""
        postfix = self.postfix(self.MAIN)
        self.imported("--diff", "-c", postfix.config, "-f", self.path("none"), status=66)
        self.assertRegex(self.errors, "none: No such file or directory; option -f")
        bad = Workspace.write(self.directory, "bad", "lisen {}\n")
        self.imported("--diff", "-c", postfix.config, "-f", bad, status=78)
        self.assertRegex(self.errors, "import: .*/bad:1:1: ")
        bad = Workspace.write(self.directory, "bad", 'include "none.d"\n')
        self.imported("--diff", "-c", postfix.config, "-f", bad, status=78)
        self.assertRegex(self.errors, "import: .*/bad:1:.*none.d.*No such file or directory")
        self.imported("--diff", "-c", postfix.config, "-f", self.directory, status=78)
        self.assertRegex(self.errors, "tables")

    def test_diff_with_fragments(self):
        """--diff reads the fragments that a policy includes, also when it is named by a path
        without a directory."""
        postfix = self.postfix(self.MAIN)
        main, _, rest = self.imported("-c", postfix.config).partition("\n\n# virtual")
        daemon = self.complete(main + '\ninclude "parts"\n')
        os.mkdir(os.path.join(daemon.directory, "parts"))
        Workspace.write(os.path.join(daemon.directory, "parts"), "1.conf", "# virtual" + rest)
        for path, where in ((daemon.config, "/"), ("jailmapd.conf", daemon.directory)):
            command = [workspace().jailmap, "import", "--diff", "-c", postfix.config, "-f", path]
            self.assertEqual(harness.run(command, cwd=where), (0, "", ""))

    def test_newer_rules(self):
        """From Postfix 3.11 on restriction classes are approved, and /file/name stands for what the
        file holds."""
        listed = Workspace.write(
            self.directory,
            "listed",
            "# proxy:hash:/no/comment\nexample.org, proxy:hash:/in/file\n  {proxy:hash:/in/group}\n"
            f"[::1] reject {self.path('listed')} {self.path('absent')}\n",
        )
        postfix = self.postfix(
            {
                "local_recipient_maps": "",
                "relay_domains": listed,
                "smtpd_restriction_classes": "strict",
                "strict": "check_client_access proxy:hash:/class",
            }
        )
        Workspace.write(postfix.directory, "log", "proxy:hash:/no/log\n")  # of maillog_file
        old = printed_tables(self.imported("-c", postfix.config))[0]
        self.assertEqual(old, {})
        newer = self.script(
            '/usr/sbin/postconf "$@" | sed "s/^mail_version = .*/mail_version = 3.11.2/"\n'
        )
        policy = self.imported("-c", postfix.config, newer)
        self.assertEqual(
            {name: about[0] for name, about in printed_tables(policy)[0].items()},
            {
                "hash:/in/file": "relay_domains",
                "hash:/in/group": "relay_domains",
                "hash:/class": "strict (restriction class)",
            },
        )
        self.assertRegex(self.errors, "absent\" is skipped, .*: No such file or directory")
        self.assertNotIn("before 3.11", policy)
        self.assertEqual(denied_tables(policy), {})

    def test_no_postconf(self):
        """A postconf that is missing, fails, is killed, or prints something else is named with its
        exit status, and nothing is printed."""
        cases = {
            "--postconf=/nowhere/postconf": (69, "exit status 127.*--postconf=PATH"),
            self.script("echo words >&2; exit 3\n"): (69, "words\n.*\" ended with exit status 3"),
        }
        for option, (status, message) in cases.items():
            self.assertEqual(self.imported(option, status=status), "")
            self.assertRegex(self.errors, "(?s)" + message)
        for text, status, message in (
            ("kill -9 $$", 69, "ended by signal 9"),
            ("echo a = b; echo words", 76, "line 2 that is not"),
            ("printf 'a = b\\nc = d\\000e\\n'", 76, "line 2 that is not"),
            ("printf 'a = b'", 76, "line 1 that is not"),
            ("echo a = b", 76, "does not print config_directory"),
            ("exit 0", 76, "does not print config_directory"),
        ):
            self.assertEqual(self.imported(self.script(text + "\n"), status=status), "")
            self.assertRegex(self.errors, message)
        command = [workspace().jailmap, "import", self.script("exit 3\n")]
        code, _, _ = harness.run(["/usr/bin/env", "--ignore-signal=CHLD", *command])
        self.assertEqual(code, 69)
        self.imported("-c", self.path("none"), status=69)
        self.assertRegex(self.errors, r"main\.cf: No such file.*\n.*exit status 1")

    def test_long_output(self):
        """Megabytes of settings and thousands of tables are read, each once and in order."""
        names = [f"proxy:hash:/t/{number}" for number in range(20000)]
        postfix = self.postfix({"local_recipient_maps": "", "relay_domains": " ".join(names * 2)})
        script = self.script(
            'case " $* " in *" -P "*) exit 0;; esac\n/usr/sbin/postconf "$@"\n'
            "head -c 4000000 /dev/zero | tr '\\000' x | sed 's/^/long = /'; echo\n"
        )
        served = printed_tables(self.imported("-c", postfix.config, script))[0]
        self.assertEqual(list(served), [name[len("proxy:") :] for name in names])

    def test_strange_settings(self):
        """Nothing of a configuration gets into the policy but as a name in quotes or a printable
        comment, and an option sets the socket."""
        postfix = self.postfix(
            {
                "local_recipient_maps": "",
                "relay_domains": 'proxy:static:"}\x1b[2J proxy:static:$${x\x02y}/** '
                "proxy:hash:/" + "l" * 9000,
            }
        )
        policy = self.imported("-c", postfix.config, "-l", self.path("so\\ck\"et"))
        self.assertTrue(policy.isascii() and policy.replace("\n", "").isprintable())
        self.assertIn('so\\\\ck\\"et" {', policy)
        self.assertIn('table "static:\\"}\\x1b[2J" { }', policy)
        self.assertIn("has a longer name than jailmapd takes", policy)
        self.imported("-c", postfix.config, "-l", "x" * 200, status=64)
        self.assertRegex(self.errors, "absolute path of at most 107 bytes")

    def test_usage(self):
        """Options that do not go together are refused with the usage."""
        for options in (["words"], ["-f", "x"], ["--diff", "-l", "/x"], ["-x"], ["-c"]):
            with self.subTest(options=options):
                self.assertEqual(self.imported(*options, status=64), "")
                self.assertRegex(self.errors, "usage: jailmap import .*\n.*--diff")


if __name__ == "__main__":
    unittest.main()
