"""What the policy grants in detail: fields of users and groups, limits of keys, groups and anyone,
listeners, and a socket without a greeting.

Runs as root inside tests/system/run, against daemons of its own in private directories; users and
groups come from copies of /etc in private mount namespaces. It connects as users and groups that
nobody has. It must never ask a worker what it knows: only its memory, and what clients see.
"""

import os
import secrets
import socket
import struct

import harness
import nameservice
import proc
import protocol
from harness import workspace
from protocol import DENY, NOKEY, OK, n_lookup, o_lookup, o_sequence, reply
from test_jail import kinds
from test_limits import ALICE, BOB, MANY, STRANGERS_MOST, LimitsCase
from test_unix import ABSENT, GROUPS, SECOND, USERS, UnixCase
from waiting import wait_for

MAIL, LISTS = 30_008, 30_009  # Groups that nobody has.
GUESTS_MOST = 64  # workers of those whom a group or anyone's section lets in
FOLD = 16384
# Of the bridge, and what a program needs to have a socket as descriptor 3.
SOURCE, LINK, QUERY, ANSWER = 11, 12, 15, 16
FOUND, NOT_FOUND, TYPE_PASSWD = 1, 2, 3
BRIDGE_IS_3 = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


def outside(pid):
    """Is it a process that is meant to see all of a source?"""
    return proc.program(pid) in ("jailmap-loader", "jailmap-agent-nss")


class FieldsTest(UnixCase):
    """Fields of users and groups that the policy does not name stay outside the jail."""

    def setUp(self):
        super().setUp()
        self.words = {
            name: secrets.token_hex(12)
            for name in ("password", "gecos", "home", "shell", "secret", "member")
        }
        w = self.words
        user = f"jm-user:{w['password']}:61001:61002:{w['gecos']}:/{w['home']}:/{w['shell']}\n"
        group = f"jm-group:{w['secret']}:61003:{w['member']},other\n"
        self.replace("passwd", self.read("passwd") + user.encode())
        self.replace("group", self.read("group") + group.encode())

    def memory_of_the_jail(self, daemon):
        """What the workers and every other helper but loaders and agents could tell, and all
        images."""
        parts = [
            proc.memory(pid)
            for pid in proc.children(daemon.pid)
            if not outside(pid) and proc.alive(pid)
        ]
        parts += [
            proc.read(f"/proc/{daemon.pid}/fd/{fd}", "rb")
            for fd, kind in proc.classify(daemon.pid).items()
            if kind == "memfd"
        ]
        return b"\n".join(parts)

    def check(self, reveals, answers, seen):
        """Both tables with what they reveal: the answers for jm-user and jm-group, and which of
        the words are then in the jail, whoever answers."""
        for switch, kind in (
            ("files", "image"),
            (f"files {SECOND}", "image+agent"),
            (f"{SECOND} files", "agent"),
        ):
            self.switch(switch)
            tables = [
                (table, {"reveal": value})
                for table, value in zip((USERS, GROUPS), reveals, strict=True)
            ]
            with self.subTest(kind), self.daemon(tables) as daemon, daemon.client() as client:
                memory = b""
                for table, name, value in zip(
                    (USERS, GROUPS), ("jm-user", "jm-group"), answers, strict=True
                ):
                    self.assertEqual(client.lookup(table, ABSENT), (NOKEY, b""))
                    self.assertEqual(client.lookup(table, name), (OK, value.encode()))
                    # At once: the buffer of a link holds no more than the last answer.
                    memory += self.memory_of_the_jail(daemon)
                for name, word in self.words.items():
                    self.assertEqual(word.encode() in memory, name in seen, name)

    def test_uid(self):
        """With `reveal = {uid}`, or {gid} of a group, a lookup gives the line with nothing but
        that, and no other field is in the memory of any process of the jail, or in an image: from
        the files, and from the name service."""
        self.check((["uid"], ["gid"]), ("::61001::::", "::61003:"), ())

    def test_existence(self):
        """With `reveal = existence` no field is in the memory of any process of the jail, or in an
        image, whoever answers."""
        self.check(("existence", "existence"), ("jm-user", "jm-group"), ())

    def test_some_fields(self):
        """Fields that are named are there, and so is what is in them, and no other field is."""
        w = self.words
        self.check(
            (["name", "gecos", "shell"], ["name", "members"]),
            (
                f"jm-user::::{w['gecos']}::/{w['shell']}",
                f"jm-group:::{w['member']},other",
            ),
            ("gecos", "shell", "member"),
        )

    def test_every_field(self):
        """With every field named, and with `reveal = all`, the line is whole, so the way of looking
        for the other fields works."""
        w = self.words
        lines = (
            f"jm-user:{w['password']}:61001:61002:{w['gecos']}:/{w['home']}:/{w['shell']}",
            f"jm-group:{w['secret']}:61003:{w['member']},other",
        )
        users = ["name", "password", "uid", "gid", "gecos", "home", "shell"]
        self.check((users, ["members", "gid", "password", "name"]), lines, tuple(w))
        self.check(("all", "all"), lines, tuple(w))

    def test_of_a_name_service(self):
        """An entry that only the name service has loses the fields that are not named."""
        tables = [(USERS, {"reveal": ["name", "gid"]}), (GROUPS, {"reveal": ["members"]})]
        daemon = self.jailmapd(tables, start=False).start(wrap=nameservice.switched())
        with daemon.client() as client:
            self.assertEqual(client.lookup(USERS, "nss-user-7"), (OK, b"nss-user-7:::4343:::"))
            self.assertEqual(client.lookup(GROUPS, "nss-present"), (OK, b":::one,two"))


class KeysTest(LimitsCase):
    """A table with a limit has no other keys."""

    LIMIT = {"max-key": 5, "keys": "a-z0-9"}
    TEXT = "alice 1\nbob2 2\nlonger 3\nb-b 4\na.b 5\n"

    def check(self, daemon, table, left, out):
        with daemon.client() as client:
            for key, value in left.items():
                self.assertEqual(client.lookup(table, key), (OK, value.encode()), key)
            for key in out:
                self.assertEqual(client.lookup(table, key), (NOKEY, b""), key)

    def test_stored_tables(self):
        """Entries of stored databases whose keys are longer, or have other bytes, are left out,
        with a count and the first one in the log; a walk passes over them too."""
        tables = [self.table(kind, self.TEXT, kind) for kind in ("hash", "btree", "cdb", "lmdb")]
        free = self.table("free", self.TEXT)
        daemon = self.jailmapd([(table, self.LIMIT) for table in tables] + [free])
        for table in tables:
            self.check(
                daemon,
                table,
                {"alice": "1", "bob2": "2"},
                ("longer", "b-b", "a.b", "", "x", "x" * 100_000, b"\xff", "carol"),
            )
            daemon.wait_log(
                rf'warning: table "{table}" loaded: 2 entries.*; 3 ignored, the first: '
                r'the key "[a-z.-]+" \(\d bytes\) is not within max-key and keys'
            )
            with daemon.client() as client:
                found = {client.call(o_sequence(table, 0))[1], client.call(o_sequence(table, 1))[1]}
                self.assertEqual(found, {b"alice", b"bob2"})
                self.assertEqual(client.call(o_sequence(table, 1))[0], NOKEY)
        self.check(daemon, free, {"longer": "3", "b-b": "4"}, ())

    def test_letters_of_both_cases(self):
        """Letters stand for both cases: an entry in upper case is there, and a request in upper
        case is looked for, folded or not."""
        text = workspace().write(self.directory, "text", "ALICE 1\nBob 2\nCAROLA 3\n")
        table = f"texthash:{text}"
        daemon = self.jailmapd([(table, self.LIMIT)])
        self.check(daemon, table, {"alice": "1", "bob": "2"}, ("carola",))
        daemon.wait_log(rf'table "{table}" loaded: 2 entries.*; 1 ignored, the first: the key')
        with daemon.client() as client:
            self.assertEqual(client.lookup(table, "ALICE", FOLD), (OK, b"1"))
            self.assertEqual(client.lookup(table, "CAROLA", FOLD), (NOKEY, b""))

    def test_tables_without_a_file(self):
        """The same holds for static and inline tables, where the name says all; the empty key has
        no byte that could be wrong."""
        static, inline = "static:yes", "inline:{alice=1, longer=2, b-b=3}"
        daemon = self.jailmapd([(static, self.LIMIT), (inline, self.LIMIT)])
        self.check(
            daemon, static, {"alice": "yes", "x": "yes", "": "yes"}, ("longer", "b-b", "alice ")
        )
        self.check(daemon, inline, {"alice": "1"}, ("longer", "b-b"))

    def test_users(self):
        """Users whose names are not within the limit are left out; one of the limits alone does
        not set the other."""
        daemon = self.jailmapd([(USERS, {"max-key": 4, "reveal": "existence"})])
        self.check(daemon, USERS, {"root": "root", "mail": "mail"}, ("daemon", "nobody"))
        daemon = self.jailmapd([(USERS, {"keys": "a-m", "reveal": "existence"})])
        self.check(daemon, USERS, {"mail": "mail"}, ("daemon", "root"))

    def test_the_agent_is_not_asked(self):
        """A key that is not within the limit is answered while the agent is stopped, so nobody asks
        the name service; one that is within it waits for the agent."""
        limit = {"max-key": 10, "keys": "a-z0-9-"}
        daemon = self.jailmapd([(USERS, limit)], start=False)
        daemon.start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(USERS, "nss-user-7"), (OK, nameservice.user(7)))
        (agent,) = daemon.wait_roles("agent")
        self.pause(agent)
        for key in ("nss-user-77", "NSS-USER-7_", "a\nb", b"\xff", "x" * 5000, "fault-hang!"):
            self.assertEqual(client.lookup(USERS, key), (NOKEY, b""), key)
        client.send(o_lookup(USERS, "nss-user-8", 64))
        self.resume(agent)
        self.assertEqual(client.receive(), reply("status", OK, "value", nameservice.user(8)))

    def test_the_agent_keeps_to_the_limit(self):
        """An agent that is asked for a key that is not within the limit, as by a worker that was
        taken over, says that it is not there; so the name service is not asked either."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = os.path.join(workspace().libexec, "jailmap-agent-nss")
        agent = harness.start(
            ["/usr/bin/python3", "-c", BRIDGE_IS_3, str(theirs.fileno()), program],
            pass_fds=(theirs.fileno(),),
        )
        allowed = bytearray(32)
        for byte in b"abcdefghijklmnopqrstuvwxyz":
            allowed[byte // 8] |= 1 << byte % 8
        with ours, theirs, link, far:
            # As privsep/messages.h has them: type of table, fields, limit, time; name.
            ours.send(
                struct.pack("=5I", SOURCE, 0, TYPE_PASSWD, 1 << 2, 4)
                + allowed
                + struct.pack("=I", 10)
                + b"x"
            )
            socket.send_fds(ours, [struct.pack("=3I", LINK, 0, 0)], [far.fileno()])
            link.settimeout(protocol.LIMIT)
            for key, answer in (
                (b"root", (FOUND, b"::0::::")),
                (b"mail", (FOUND, b"::8::::")),
                (b"daemon", (NOT_FOUND, b"")),  # too long
                (b"ro-t", (NOT_FOUND, b"")),
                (b"ROOT", (NOT_FOUND, b"")),  # here the class is these bytes
                (b"root", (FOUND, b"::0::::")),
            ):
                link.send(struct.pack("=2IQ2I", QUERY, 0, 7, 0, 0) + key)
                found = link.recv(4096)
                self.assertEqual(struct.unpack("=2IQ", found[:16]), (ANSWER, 0, 7))
                self.assertEqual((struct.unpack("=I", found[16:20])[0], found[24:]), answer, key)
        self.assertEqual(harness.wait_exit(agent, "the agent to end with its bridge"), 0)


class AllowTest(LimitsCase):
    """Groups, anyone, listeners, and words that stand for several tables."""

    def setUp(self):
        super().setUp()
        self.a = self.table("a", "key a\n")
        self.b = self.table("b", "key b\n")
        self.tree = self.table("tree", "key tree\n", "btree")
        self.all = [self.a, self.b, self.tree]

    def may(self, path, tables, **who):
        """Checks that whoever connects gets these tables and no other."""
        with protocol.Client(path, **who) as client:
            found = [table for table in self.all if client.lookup(table, "key")[0] != DENY]
            self.assertEqual(found, list(tables), who)

    def test_groups(self):
        """A section of a group speaks of those who have it as their primary group and of those who
        have it besides, and of nobody else; what several sections say is added up."""
        daemon = self.jailmapd(
            self.all,
            allow={str(ALICE): [self.a], f"@{MAIL}": [self.b], f"@{LISTS}": [self.tree]},
        )
        path = daemon.socket
        self.may(path, [self.a], uid=ALICE)
        self.may(path, [self.a, self.b], uid=ALICE, gid=MAIL)
        self.may(path, [self.a, self.b], uid=ALICE, groups=[5, MAIL])
        self.may(path, [self.a, self.b, self.tree], uid=ALICE, gid=LISTS, groups=[MAIL])
        self.may(path, [self.b], uid=BOB, groups=[MAIL])
        self.may(path, [self.b, self.tree], uid=BOB, groups=[LISTS, MAIL] + list(range(100, 150)))
        self.may(path, [], uid=BOB, groups=[7])
        self.may(path, [], uid=MAIL, gid=BOB)  # a uid is no gid
        self.may(path, [])
        self.assertNotRegex(daemon.log(), " died: ")

    def test_groups_by_name(self):
        """Groups can be named as they can be numbered."""
        daemon = self.jailmapd(self.all, allow={"@mail": [self.a]})
        self.may(daemon.socket, [self.a], uid=ALICE, gid=8)
        self.may(daemon.socket, [], uid=ALICE)

    def test_anyone(self):
        """A section of anyone speaks of everybody, with what others say besides."""
        daemon = self.jailmapd(self.all, allow={"*": [self.b], "root": [self.a]})
        self.may(daemon.socket, [self.b], uid=MANY)
        self.may(daemon.socket, [self.b], uid=ALICE, groups=[MAIL])
        self.may(daemon.socket, [self.a, self.b])

    def test_listeners(self):
        """A section that lists sockets says nothing of the others; each socket can have its own
        for the same user, group and anyone."""
        runtime = workspace().directory("sockets")
        one, other = (os.path.join(runtime, name) for name in ("one", "other"))
        text = "".join(
            f'allow "{who}" {{ listen = {{"{path}"}} tables = {{"{table}"}} }}\n'
            for who, path, table in (
                (ALICE, one, self.a),
                (ALICE, other, self.b),
                (f"@{MAIL}", one, self.tree),
                ("*", other, self.tree),
            )
        )
        daemon = self.jailmapd(
            self.all, listen={one: {"mode": "0666"}, other: {"mode": "0666"}}, allow={}, start=False
        )
        with open(daemon.config, "a", encoding="ascii") as config:
            config.write(text)
        daemon.start()
        self.may(one, [self.a], uid=ALICE)
        self.may(other, [self.b, self.tree], uid=ALICE)
        self.may(one, [self.tree], uid=BOB, groups=[MAIL])
        self.may(one, [], uid=BOB)
        self.may(other, [self.tree], uid=BOB, groups=[MAIL])

    def test_words(self):
        """`TYPE:*` stands for the tables of that type, and jailmapd -n says what that and `*` are
        at the time."""
        daemon = self.jailmapd(
            self.all,
            allow={
                str(ALICE): ["hash:*"],
                str(BOB): [self.a, "btree:*"],
                "root": ["*"],
                "*": ["cdb:*"],
            },
        )
        self.may(daemon.socket, [self.a, self.b], uid=ALICE)
        self.may(daemon.socket, [self.a, self.tree], uid=BOB)
        self.may(daemon.socket, self.all)
        self.may(daemon.socket, [], uid=MANY)
        code, out, errors = harness.run([workspace().jailmapd, "-n", "-c", daemon.config])
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(
            out.splitlines()[1:],
            [
                f'allow "{ALICE}": "hash:*" is "{self.a}", "{self.b}"',
                f'allow "{BOB}": "btree:*" is "{self.tree}"',
                f'allow "root": "*" is "{self.a}", "{self.b}", "{self.tree}"',
                'allow "*": "cdb:*" is no table',
            ],
        )

    def test_a_worker_for_each_set_of_rights(self):
        """Two processes of one user share a worker if the same sections speak of them, whatever
        their other groups are; if not, neither worker has what the other one is allowed."""
        daemon = self.jailmapd(self.all, allow={str(ALICE): [self.a], f"@{MAIL}": [self.b]})

        def workers():
            return sorted(kinds(pid).get("stream", 0) for pid in daemon.roles()["worker"])

        plain = [self.client(daemon, uid=ALICE, groups=groups) for groups in ([], [5], [6, 7])]
        self.assertEqual(workers(), [3])
        mail = self.client(daemon, uid=ALICE, groups=[MAIL])
        mail_too = self.client(daemon, uid=ALICE, gid=MAIL, groups=[9])
        wait_for(lambda: workers() == [2, 3], "a worker for each set")
        self.assertEqual(mail.lookup(self.b, "key"), (OK, b"b"))
        self.assertEqual(mail_too.lookup(self.a, "key"), (OK, b"a"))
        for client in plain:
            self.assertEqual(client.lookup(self.b, "key")[0], DENY)
            self.assertEqual(client.lookup(self.a, "key"), (OK, b"a"))

    def test_advice_for_a_guest(self):
        """The line of a denial, taken into the file, approves the table for whom a group lets in,
        and changes nothing else."""
        daemon = self.jailmapd(self.all, allow={f"@{MAIL}": [self.b]}, start=False).start()
        self.may(daemon.socket, [self.b], uid=ALICE, groups=[MAIL])
        found = daemon.wait_log(
            rf'denied table "{self.a}" to uid {ALICE} .* jailmapd.conf needs: (allow .*)$'
        )
        daemon.stop()
        with open(daemon.config, "a", encoding="ascii") as config:
            config.write(found.group(1) + "\n")
        daemon.start()
        self.may(daemon.socket, [self.a, self.b], uid=ALICE, groups=[MAIL])
        self.may(daemon.socket, [self.b], uid=BOB, groups=[MAIL])

    def test_guests_are_bounded(self):
        """Users whom only a group or anyone's section lets in get 64 workers in all; a further one
        is refused with a line, and takes nothing from a named user or from a stranger."""
        daemon = self.jailmapd(self.all, allow={f"@{MAIL}": [self.b], str(ALICE): [self.a]})
        guests = [
            self.client(daemon, uid=MANY + number, groups=[MAIL]) for number in range(GUESTS_MOST)
        ]
        mark = daemon.mark()
        with protocol.Client(daemon.socket, uid=MANY - 1, groups=[MAIL], greeting=False) as client:
            self.assertEqual(client.receive_all(), b"")
        daemon.wait_log(
            rf"warning: refused client uid {MANY - 1} pid \d+ on {daemon.socket}: "
            r"too many users allowed by a group or as anyone",
            since=mark,
        )
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(self.a, "key"), (OK, b"a"))
        strangers = [self.client(daemon, uid=MANY + 1000 + n) for n in range(STRANGERS_MOST)]
        self.assertEqual(strangers[-1].lookup(self.a, "key")[0], DENY)
        for guest in guests:
            self.assertEqual(guest.lookup(self.b, "key"), (OK, b"b"))
        guests.pop().close()

        # The worker of the one who has left makes room as soon as it has told of that.
        def served():
            with protocol.Client(
                daemon.socket, uid=MANY - 2, groups=[MAIL], greeting=False
            ) as another:
                try:
                    return another.receive() == protocol.GREETING
                except protocol.Closed:
                    return False

        wait_for(served, "a guest to get the place of another")

    def test_places_of_a_user_with_groups(self):
        """With `workers = 1` a user has one more place for each group that makes a difference; one
        that is not in use is not kept from his other processes."""
        daemon = self.jailmapd(
            self.all,
            allow={str(ALICE): [self.a], f"@{MAIL}": [self.b], f"@{LISTS}": [self.tree]},
            socket_options={"workers": 1},
        )
        sets = ([], [MAIL], [LISTS])
        clients = [self.client(daemon, uid=ALICE, groups=groups) for groups in sets]
        with protocol.Client(
            daemon.socket, uid=ALICE, groups=[MAIL, LISTS], greeting=False
        ) as client:
            self.assertEqual(client.receive_all(), b"")
        daemon.wait_log(r"refused client .*: its processes with other groups have all its workers")
        clients[0].close()

        def served():
            with protocol.Client(
                daemon.socket, uid=ALICE, groups=[MAIL, LISTS], greeting=False
            ) as another:
                try:
                    return another.receive() == protocol.GREETING
                except protocol.Closed:
                    return False

        wait_for(served, "a process with both groups to be served")
        for client, table in zip(clients[1:], (self.b, self.tree), strict=True):
            self.assertEqual(client.lookup(table, "key")[0], OK)


class GreetingTest(LimitsCase):
    """A socket for Postfix 3.5 and older."""

    def test_no_greeting(self):
        """With `greeting = off` the first bytes that a client gets are the answer to its first
        request, in both dialects, also from the worker that it is handed over to; and the default
        is a greeting."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"greeting": "off", "max-use": 2})
        old = self.client(daemon, greeting=False)
        self.assertEqual(old.lookup(table, "key"), (OK, b"value"))
        for _ in range(6):
            with daemon.client(greeting=False) as client:
                self.assertEqual(
                    client.ask(n_lookup(table, "key", 0, 64)).split(b"\0")[:2], [b"status", b"0"]
                )
            self.assertEqual(old.lookup(table, "key"), (OK, b"value"))
        for _ in range(2):
            code, out, _ = daemon.query(table, "key")
            self.assertEqual((code, out), (0, "value\n"))
        old.half_close()
        self.assertEqual(old.receive_all(), b"")
        for options in ({}, {"greeting": "on"}):
            with self.jailmapd([table], socket_options=options) as other:
                self.assertEqual(other.client(greeting=False).receive(), protocol.GREETING)
