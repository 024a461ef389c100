"""The mistakes that people make in a configuration, and what they are told: word for word.

A message that changes is to be read here, as whoever makes the mistake reads it. Nothing is started.
"""

import os

import harness
from harness import workspace

ALICE = 1
TABLE = 'table "hash:/t" { }\n'


class MistakesTest(harness.Case):
    """jailmapd -n, and what only a start finds."""

    def setUp(self):
        super().setUp()
        self.place = workspace().directory("mistakes")
        self.head = (
            'user = "nobody"\n'
            f'runtime-dir = "{self.place}/run"\n'
            f'libexec-dir = "{workspace().libexec}"\n'
        )
        self.listen = f'listen "{self.place}/s" {{ }}\n'
        self.file = os.path.join(self.place, "conf")

    def told(self, text, *message, option="-n"):
        """What is written behind the first three lines is refused with that message."""
        workspace().write(self.place, "conf", self.head + text)
        code, out, errors = harness.run([workspace().jailmapd, option, "-c", self.file])
        self.assertEqual((code, out, errors), (78, "", f"{self.file}{''.join(message)}\n"), text)

    def test_words(self):
        """Misspelt words, missing braces, quotes, signs and values."""
        first = f'listen "{self.place}/s"'
        self.told(
            self.listen.replace("listen", "lisen"),
            ':4:1: "lisen" is not known here; did you mean "listen"?',
        )
        self.told(
            self.listen + 'table "hash:/t" { reveel = all }\n',
            ':5:19: "reveel" is not known here; did you mean "reveal"?',
        )
        self.told(
            f"{first} {{\n    mode = 0600\n{TABLE}",
            ":6:1: table begins inside the listen section that begins in line 4; } is expected "
            "before it",
        )
        self.told(
            self.listen + 'allow "root" { tables = {"*"}\n',
            ":5:30: the file ends inside the allow section that begins in line 5; } is expected",
        )
        self.told(self.listen + "}\n", ":5:1: } stands here and ends no section; leave it out")
        self.told(
            self.listen + 'table "hash:/t { }\n',
            ':5:7: the string that begins here does not end on its line; " is expected',
        )
        self.told(
            self.listen + 'allow "root" { tables = "*" }\n',
            ':5:25: "*" stands here; a list in braces, tables = {"...", "..."}, is expected',
        )
        self.told(
            'listen "/s" { mode 0600 }\n', ':4:20: "0600" stands here; = behind mode is expected'
        )

    def test_values(self):
        """Users, groups, numbers, fields, keys and tables that are not."""
        self.told(
            'listen "/s" { owner = nosuch }\n',
            ':4:23: unknown user "nosuch"; the name of a user of this system, or a number, is '
            "expected",
        )
        self.told(
            'listen "/s" { group = nosuch }\n',
            ':4:23: unknown group "nosuch"; the name of a group of this system, or a number, is '
            "expected",
        )
        self.told(
            self.listen + 'allow "root" { tables = {"hash:/t"} }\n',
            ':5:26: allow "root" names table "hash:/t", which is not declared; '
            'table "hash:/t" { } is expected',
        )
        self.told(
            self.listen + 'table "unix:passwd.byname" { reveal = {uid, sheel} }\n',
            ':5:45: reveal: "sheel" is no field of unix:passwd.byname; '
            "name, password, uid, gid, gecos, home or shell is expected",
        )
        self.told(
            self.listen + 'limit "*" { clients = 0 }\n',
            ":5:23: clients = 0 is out of range; 1 to 1000000, or no such line for no limit, "
            "is expected",
        )
        self.told(
            'listen "/s" { workers = 0 }\n',
            ":4:25: workers = 0 is out of range; 1 to 64 is expected",
        )
        self.told(
            self.listen + 'table "hash:/t" { keys = "z-a" }\n',
            ':5:26: keys = "z-a" has the range "z-a", which goes backwards; "a-z" is expected',
        )
        self.told(
            self.listen + 'table "hash:etc/t" { }\n',
            ':5:7: the path in table "hash:etc/t": "etc/t" is a relative path; '
            "an absolute one is expected",
        )

    def test_answer_tables(self):
        """Names of tables that other processes or other tables answer, and options that mean
        nothing for a table."""
        for table, message in (
            (
                "mysql:virt",
                "its parameters would stand in main.cf, which is not read; a file with them, and "
                "its absolute path behind the colon, is expected",
            ),
            (
                "sqlite:/l.cf",
                'names no database; database = "/PATH", the same as dbpath in /l.cf, is expected',
            ),
            (
                "socketmap:localhost:25:map",
                "what stands behind the colon is no server and its map; inet:HOST:PORT:MAP or "
                "unix:/PATH:MAP is expected",
            ),
            ("tcp:25", "what stands behind the colon is no server; HOST:PORT is expected"),
            (
                "unionmap:hash:/t",
                "what stands behind the colon is not one pair of braces; {...} with as many } as "
                "{ is expected",
            ),
            (
                "pipemap:{hash:/t, x}",
                "a member is no TYPE:NAME; {TYPE:NAME, TYPE:NAME, ...} is expected",
            ),
            (
                "randmap:{}",
                "there is nothing in the braces; {VALUE, VALUE, ...} is expected",
            ),
            (
                "unionmap:{hash:/t}",
                'has the member "hash:/t", which is not declared; table "hash:/t" { } is expected',
            ),
            (
                "ldap:/t",
                "unknown table type; TYPE:NAME with one of these types is expected: hash, btree, "
                "cdb, lmdb, texthash, inline, static, unix, cidr, regexp, pcre, sqlite, mysql, "
                "pgsql, socketmap, tcp, environ, randmap, fail, unionmap, pipemap",
            ),
        ):
            colon = "" if message.startswith(("names", "has")) else ":"
            self.told(
                self.listen + f'table "{table}" {{ }}\n', f':5:7: table "{table}"{colon} {message}'
            )
        members = ", ".join(["hash:/t"] * 65)
        self.told(
            self.listen + f'table "unionmap:{{{members}}}" {{ }}\n',
            f':5:7: table "unionmap:{{{members}}}": there are more than 64 members, with those of '
            "its members; 64 at most are expected",
        )
        self.told(
            self.listen + 'table "hash:/t" { processes = 4 }\n',
            ":5:19: processes means nothing for a table of type hash, which no agent answers; "
            "leave it out",
        )
        self.told(
            self.listen + 'table "pipemap:{hash:/t}" { reveal = existence }\n',
            ":5:29: reveal means nothing for a table of type pipemap, whose members say what they "
            "reveal; leave it out",
        )
        self.told(
            self.listen + 'table "environ:x" { set = {"PATH"} }\n',
            ':5:28: set: "PATH" is no entry; "NAME=VALUE" is expected',
        )
        self.told(
            self.listen + 'table "environ:x" { set = {"A=1", "A=2"} }\n',
            ":5:35: set names A twice; once is expected",
        )

    def test_sockets(self):
        """Two listeners on one path, a path that is too long, and directories that are missing or
        that others can write."""
        self.told(
            self.listen + self.listen,
            f':5:8: duplicate listen "{self.place}/s"; the first is in {self.file}:4',
        )
        path = "/" + "x" * 120
        self.told(
            f'listen "{path}" {{ }}\n',
            f':4:8: listen "{path}" is longer than the 107 bytes of a socket\'s name; '
            "a shorter path is expected",
        )
        self.told(
            f'listen "{self.place}/none/s" {{ }}\n',
            f':4:8: listen "{self.place}/none/s": {self.place}/none: No such file or directory',
            option="-f",
        )
        self.told(
            'listen "/tmp/s" { }\n',
            ':4:8: listen "/tmp/s": /tmp can be written by others (mode 1777)',
            option="-f",
        )

    def test_files(self):
        """Fragments that cannot be read, and files of somebody else."""
        fragments = os.path.join(self.place, "conf.d")
        text = self.listen + 'include "conf.d"\n'
        self.told(text, f':5:1: include "conf.d": {fragments}: No such file or directory')
        os.mkdir(fragments)
        os.chmod(fragments, 0o777)
        self.told(text, f':5:1: include "conf.d": {fragments} can be written by others (mode 0777)')
        os.chmod(fragments, 0o755)
        path = workspace().write(fragments, "a.conf", TABLE)
        os.chown(path, ALICE, 0)
        self.told(text, f":5:1: {path} is not read: {path} belongs to uid {ALICE}, not to root")
        os.chown(path, 0, 0)
        workspace().write(fragments, "a.conf", TABLE + "frob = 1\n")
        code, _, errors = harness.run([workspace().jailmapd, "-n", "-c", self.file])
        self.assertEqual((code, errors.startswith(f'{path}:2:1: "frob" is not known')), (78, True))
        os.chown(self.file, ALICE, 0)
        code, _, errors = harness.run([workspace().jailmapd, "-n", "-c", self.file])
        self.assertEqual(
            (code, errors),
            (78, f"{self.file}: not read: {self.file} belongs to uid {ALICE}, not to root\n"),
        )
