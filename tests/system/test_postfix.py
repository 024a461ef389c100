"""A chrooted Postfix resolves users and aliases through jailmapd: the main job, tried over SMTP.

A private Postfix whose smtpd is chrooted, whose master.cf has no proxymap service, and whose
proxied tables go to a jailmapd that listens inside that chroot. Everything is below the private
directory of the run; the mailbox is written by virtual(8) as an unprivileged user.
"""

import os
import pwd
import re
import unittest

import harness
import private_postfix
import proc
from harness import postmap, workspace
from waiting import wait_for

SERVICES = [
    "127.0.0.1:{port0} inet n - y - - smtpd",
    "127.0.0.1:{port1} inet n - y - - smtpd -o { local_recipient_maps = LATE }",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "anvil unix - - n - 1 anvil",
    "virtual unix - n n - - virtual",
]


class PostfixTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(lambda: [part.stop() for part in (cls.postfix, cls.jailmapd)])
        cls.postfix = cls.jailmapd = None
        tables = workspace().directory("postfix-tables")
        cls.aliases, cls.virtual, cls.late = (
            os.path.join(tables, name) for name in ("aliases", "virtual", "late")
        )
        postmap("hash", cls.aliases, "webmaster: root\nhostmaster: root\n", tool="postalias")
        postmap("btree", cls.virtual, "sales@mx.test root@mx.test\n")
        users = "proxy:unix:passwd.byname"
        cls.nobody = pwd.getpwnam("nobody")
        mail = workspace().directory("mail", owner=(cls.nobody.pw_uid, cls.nobody.pw_gid))
        cls.mailbox = os.path.join(mail, "inbox")
        cls.postfix = private_postfix.Postfix(
            "postfix",
            {
                "proxymap_service_name": "jailmap",
                "mydestination": "mx.test",
                "local_recipient_maps": f"{users} proxy:hash:{cls.aliases}",
                "virtual_alias_maps": f"proxy:btree:{cls.virtual}",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtpd_error_sleep_time": "0",
                "smtpd_soft_error_limit": "1000",
                "smtpd_hard_error_limit": "1000",
                # Local users get their mail from virtual(8), which can write below one directory as
                # one user.
                "local_transport": "virtual",
                "virtual_mailbox_domains": "",
                "virtual_mailbox_base": mail,
                "virtual_mailbox_maps": "static:inbox",
                "virtual_uid_maps": f"static:{cls.nobody.pw_uid}",
                "virtual_gid_maps": f"static:{cls.nobody.pw_gid}",
            },
            [line.replace("LATE", f"{users} proxy:hash:{cls.late}") for line in SERVICES],
        )
        # Postfix daemons open their tables before they enter the jail, as root, and go on with that
        # connection; later connections come from inside the jail, as postfix. The policy names
        # both.
        names = [
            "unix:passwd.byname",
            f"hash:{cls.aliases}",
            f"btree:{cls.virtual}",
            f"hash:{cls.late}",
        ]
        cls.jailmapd = harness.Jailmapd(
            "postfix-jailmapd",
            tables=[(names[0], {"reveal": "existence"}), *names[1:]],
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
        cls.uid = pwd.getpwnam("postfix").pw_uid

    def session(self, number=0):
        session = private_postfix.Smtp(self.postfix.ports[number])
        self.addCleanup(session.close)
        return session

    def smtpd(self):
        """The pids of the running smtpd processes, once each has entered its jail; master may just
        have started one."""

        def jailed():
            pids = self.postfix.daemons("smtpd")
            return (
                pids
                if pids and all(os.readlink(f"/proc/{pid}/root") != "/" for pid in pids)
                else None
            )

        return wait_for(jailed, "smtpd to run in a jail")

    def test_real_user(self):
        """A user of the real passwd database is a valid recipient for the chrooted smtpd: 250."""
        session = self.session()
        for user in ("root", "postfix", "Root"):
            self.assertRegex(session.recipient(f"{user}@mx.test"), r"^250 2\.1\.5 ")

    def test_alias(self):
        """An alias of an alias file outside the jail is a valid recipient: 250."""
        session = self.session()
        self.assertRegex(session.recipient("webmaster@mx.test"), r"^250 2\.1\.5 ")
        self.assertRegex(session.recipient("HostMaster@mx.test"), r"^250 2\.1\.5 ")

    def test_unknown_user(self):
        """A name that no table has is refused for ever: 550 5.1.1."""
        session = self.session()
        for name in ("no-such-user", "root1", "webmaster2", "x" * 60):
            self.assertRegex(
                session.recipient(f"{name}@mx.test"),
                r"^550 5\.1\.1 .*User unknown in local recipient",
            )

    def test_failing_table(self):
        """A failing table gives 451, and after its repair 250 and 550, in the same SMTP session."""
        for suffix in ("", ".db"):
            if os.path.exists(self.late + suffix):
                os.unlink(self.late + suffix)
        self.addCleanup(self.postfix.reload)
        self.jailmapd.stop()  # A table that was once good would keep its last image in service.
        self.jailmapd.start()
        session = self.session(1)
        before = self.smtpd()
        for name in ("late-user", "no-such-user"):
            self.assertRegex(session.recipient(f"{name}@mx.test"), r"^451 4\.3\.0 ")
        mark = self.jailmapd.mark()
        postmap("hash", self.late, "late-user root\n")
        self.jailmapd.wait_log(rf'table "hash:{self.late}" recovered: 1 entries', since=mark)
        # The log may be a moment ahead of the workers; until they have the table it is 451 and
        # nothing else.
        answers = []
        wait_for(
            lambda: answers.append(session.recipient("late-user@mx.test"))
            or not answers[-1].startswith("451 4.3.0 "),
            "451 to end",
        )
        self.assertRegex(answers[-1], r"^250 2\.1\.5 ")
        self.assertRegex(session.recipient("no-such-user@mx.test"), r"^550 5\.1\.1 ")
        self.assertTrue(set(before) & set(self.postfix.daemons("smtpd")), "smtpd was replaced")

    def test_delivery(self):
        """Mail sent over SMTP to a virtual alias is delivered to the mailbox of the user that it
        names."""
        text = f"token-{os.getpid()}-{len(self.postfix.log())}"
        queued = self.session().deliver("sales@mx.test", f"Subject: {text}\r\n\r\n{text} body")
        identity = re.search(r"queued as (\w+)", queued).group(1)
        self.postfix.wait_log(
            rf"{identity}: to=<root@mx\.test>, orig_to=<sales@mx\.test>, relay=virtual.*status=sent"
        )
        with open(self.mailbox, encoding="utf-8") as file:
            message = file.read().split("\nFrom ")[-1]
        self.assertIn(f"{text} body", message)
        self.assertRegex(message, r"(?m)^Delivered-To: root@mx\.test$")
        self.assertRegex(message, r"(?m)^X-Original-To: sales@mx\.test$")
        self.assertEqual(os.stat(self.mailbox).st_uid, self.nobody.pw_uid)

    def test_chrooted(self):
        """The smtpd that answers runs as postfix with the queue directory as its root, and nothing
        there has users or tables."""
        session = self.session()
        self.assertRegex(session.recipient("root@mx.test"), r"^250 ")
        for pid in self.smtpd():
            self.assertEqual(os.readlink(f"/proc/{pid}/root"), self.postfix.queue)
            self.assertEqual(proc.status(pid)["Uid"].split(), [str(self.uid)] * 4)
            files = [
                link
                for link in proc.descriptors(pid).values()
                if link.startswith("/") and not link.startswith("/dev/null")
            ]
            self.assertFalse([link for link in files if link.endswith((".db", "passwd"))], files)
        inside = [
            name for _, folders, names in os.walk(self.postfix.queue) for name in folders + names
        ]
        self.assertFalse(
            [name for name in inside if name.endswith(".db") or name in ("etc", "passwd")], inside
        )

    def test_no_other_server(self):
        """The private Postfix has no proxymap service: without jailmapd no answer comes, and with
        it the same session goes on."""
        with open(os.path.join(self.postfix.config, "master.cf"), encoding="utf-8") as file:
            self.assertNotIn("proxymap", file.read())
        self.assertFalse(
            [
                name
                for name in os.listdir(os.path.dirname(self.postfix.private("x")))
                if name.startswith("proxy")
            ]
        )
        self.addCleanup(self.postfix.reload)
        session = self.session()
        self.assertRegex(session.recipient("root@mx.test"), r"^250 ")
        self.jailmapd.stop()
        self.assertFalse(os.path.exists(self.postfix.private("jailmap")))
        mark = len(self.postfix.log())
        session.socket.sendall(b"RCPT TO:<postfix@mx.test>\r\n")
        # Some daemon that the answer needs says so, and tries again until there is a server.
        wait_for(
            lambda: re.search(
                r"\]: warning: connect #\d+ to subsystem private/jailmap: ",
                self.postfix.log()[mark:],
            ),
            lambda: "a daemon of Postfix to miss its map server; its log: "
            + self.postfix.log()[mark:],
        )
        self.jailmapd.start()
        self.assertRegex(session.answer(), r"^250 2\.1\.5 ")
        self.assertRegex(session.recipient("no-such-user@mx.test"), r"^550 5\.1\.1 ")

    def test_restart(self):
        """jailmapd is restarted below a running smtpd: the session goes on, and the log has each
        open with postfix's uid and the pid of smtpd."""
        self.addCleanup(self.postfix.reload)
        session = self.session()
        self.assertRegex(session.recipient("root@mx.test"), r"^250 ")
        mark = self.jailmapd.mark()
        self.assertEqual(self.jailmapd.stop(), 0)
        self.jailmapd.start()
        self.assertRegex(session.recipient("webmaster@mx.test"), r"^250 ")
        self.assertRegex(session.recipient("sales@mx.test"), r"^250 ")
        self.assertRegex(session.recipient("no-such-user@mx.test"), r"^550 5\.1\.1 ")
        pids = "|".join(map(str, self.smtpd()))
        for name in ("unix:passwd.byname", f"hash:{self.aliases}"):
            self.jailmapd.wait_log(
                rf'approved table "{name}" for uid {self.uid} pid ({pids}) on '
                rf"{self.postfix.private('jailmap')}$",
                since=mark,
            )
        # The virtual alias table may have been opened first by cleanup or trivial-rewrite.
        self.jailmapd.wait_log(
            rf'approved table "btree:{self.virtual}" for uid {self.uid} pid \d+ ', since=mark
        )

    def test_opens_before_jail(self):
        """Opens that a Postfix daemon sends before it enters its jail arrive as uid 0 and are
        logged so."""
        self.session()
        for name in ("unix:passwd.byname", f"hash:{self.aliases}", f"btree:{self.virtual}"):
            self.jailmapd.wait_log(rf'approved table "{name}" for uid 0 pid \d+ on ')
        self.assertNotIn("denied", self.jailmapd.log())
