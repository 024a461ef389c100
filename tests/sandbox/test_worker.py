"""A worker that somebody has taken over: what it tries to reach by system calls, with its filter and
without, and what it tells the monitor.

Each attempt has a worker of its own, which serves a uid of its own; the bystander's and the victim's
workers are others.
"""

import contextlib
import os
import socket

import arena
import case
import harness
import proc
from case import SandboxCase, add_system_tests
from protocol import DENY, OK, Closed, o_lookup
from waiting import wait_for

DIED = r"worker pid {pid} for uid {uid} on \S+ died: (.*); it had \d+ clients"


class WorkerCase(SandboxCase):
    """Orders to workers."""

    bare = False
    extra = ()
    options = None

    @classmethod
    def setUpClass(cls):
        cls.place = cls.arena("jailmap-worker", bare=cls.bare, tables=cls.extra, options=cls.options)
        cls.victim = cls.place.daemon.client(uid=arena.VICTIM)
        cls.addClassCleanup(cls.victim.close)
        cls.victim.lookup(cls.place.tables["victim"], "key")
        cls.sibling = cls.place.worker_of(arena.VICTIM)
        cls.words = case.words_for(cls.place, cls.targets(), cls.sibling)

    def order(self, text, meanwhile=None, uid=None):
        """Gives an order to a new worker. Returns what came of it: its report, or how it died."""
        place = self.place
        place.bystander.served()
        mark = place.daemon.mark()
        client, uid = place.attacker(uid)
        pid = place.worker_of(uid)
        with client:
            client.send(o_lookup(place.table, "attack:" + text, arena.PLAIN))
            outcome = meanwhile(client) if meanwhile else None
            try:
                outcome = outcome or client.call(b"")[1].decode()
            except (Closed, ConnectionError):
                outcome = self.death(pid, uid, mark)
        place.vital()
        return outcome

    def death(self, pid, uid, mark):
        """How the worker of that pid died, as the monitor tells."""
        match = self.place.daemon.wait_log(DIED.format(pid=pid, uid=uid), since=mark)
        case.wait_gone(pid)
        return match.group(1)

    @staticmethod
    def refusal(client):
        """The error of a message that the kernel did not take; None if the worker has ended."""
        try:
            report = client.call(b"")[1].decode()
        except (Closed, ConnectionError):
            return None
        return report if report == "EPERM" else None

    def ended(self, text, reason):
        """An order after which the monitor must end the worker, for that reason."""
        place = self.place
        place.bystander.served()
        mark = place.daemon.mark()
        client, uid = place.attacker()
        pid = place.worker_of(uid)
        with client:
            client.send(o_lookup(place.table, "attack:" + text, arena.PLAIN))
            how = case.REFUSED in reason and self.refusal(client) or self.death(pid, uid, mark)
        self.outcome = f"refused by the kernel: {how}"
        if how != "EPERM":
            self.outcome = f"ended by the monitor: {how}"
        self.assertRegex(how, reason)
        place.vital()
        return place.daemon.log(mark)

    def attempt(self, one):
        def gift(client):
            client.drained()
            root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead by now
                    socket.send_fds(client.socket, [b"!"], [root])
            except PermissionError:
                return "EPERM, at the client: its worker takes no descriptors"
            finally:
                os.close(root)
            return None

        meanwhile = gift if one.name.endswith("_directory") and one.only else None
        return self.order(one.order.format(**self.words), meanwhile)


@add_system_tests("worker", "A worker that was taken over", bare=False)
class FilteredTest(WorkerCase):
    """System calls of a worker as it is."""


@add_system_tests("worker", "A worker without its filter", bare=True)
class BareTest(WorkerCase):
    """The walls behind the filter."""

    bare = True

    def test_bare_memory(self):
        """A worker without its filter takes all the memory that it can get; stopped by its limit."""
        outcome = self.order("eat_memory")
        self.stopped(outcome, {"ENOMEM"})


class MessagesTest(WorkerCase):
    """What the monitor takes from no worker."""


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_WORKER"):

        def test(self, order=order, reason=reason):
            self.ended(order, reason)

        test.__doc__ = f"A worker that was taken over sends {what}; the monitor ends it."
        setattr(MessagesTest, f"test_{name}", test)


add_messages()


class LiesTest(WorkerCase):
    """Well-formed messages that are not true, too many, or none."""

    options = {"clients-per-worker": 8, "workers": 1}

    def test_no_message(self):
        """A worker sends a packet of no bytes, which is the end, and stays; the monitor ends it."""
        self.ended("malformed 5 empty stay", "it did not end in time")

    def test_hang_up(self):
        """A worker closes its bridge, and stays; the monitor ends it."""
        self.ended("hang_up", "it did not end in time")

    def test_credentials(self):
        """A worker sends the credentials of root along; stopped by the kernel."""
        self.stopped(self.order("credentials"), {"EPERM"})

    def test_client_of_nobody(self):
        """A worker opens a table for a client that it does not have; the monitor ends it."""
        self.ended(f"open_as 7 5 {self.place.table}", "on behalf of nobody")

    def test_client_beyond_all(self):
        """A worker opens a table for a client with a number beyond all; the monitor ends it."""
        self.ended(f"open_as 7 4294967295 {self.place.table}", "on behalf of nobody")

    def test_table_twice(self):
        """A worker opens a table twice, for two links or images; the monitor ends it."""
        self.ended(f"open_table {self.place.table}", "asks again for a table that it has")

    def test_victims_table_by_name(self):
        """A worker asks for the table of another compartment by its name; denied, and logged under
        the uid that the kernel told."""
        mark = self.place.daemon.mark()
        self.stopped(self.order(f"open_table {self.place.tables['victim']}"), {"EACCES"})
        self.assertRegex(self.place.daemon.log(mark), rf"denied table .*victim.* to uid {self.place.next_uid - 1} ")

    def test_victims_message_replayed(self):
        """A worker sends the very message with which the victim's worker got its table: number,
        client and name; denied."""
        self.stopped(self.order(f"open_as 0 0 {self.place.tables['victim']}"), {"EACCES"})

    def test_victims_number_guessed(self):
        """A worker speaks of every table number that there may be; the monitor ends it, and the
        victim's table answers on."""
        place = self.place
        self.ended("guess_numbers 2000 x", "speaks of a table that it does not have")
        found = self.victim.lookup(place.tables["victim"], "key")
        self.assertEqual(found, (OK, b"secret-of-the-victim"))

    def test_victims_secret_in_memory(self):
        """Nothing of the victim's is in the memory of a worker that has asked for it."""
        place = self.place
        client, uid = place.attacker()
        with client:
            client.lookup(place.table, f"attack:open_table {place.tables['victim']}")
            memory = proc.memory(place.worker_of(uid))
        self.assertIn(b"victim", memory)
        self.assertNotIn(b"secret-of-the-victim", memory)

    def test_descriptors_scanned(self):
        """A worker maps every descriptor number there can be; only its own image is among them."""
        report = self.order("look_for_images")
        self.outcome = report
        self.assertEqual(report, "done: 1")

    def denied_without_a_look(self, names):
        """Names that are asked for are denied, and nobody opens /etc/shadow meanwhile."""
        opens = harness.Opens("/etc/shadow")
        try:
            for name in names:
                with self.subTest(name):
                    self.stopped(self.order(f"open_table {name}"), {"EACCES"})
            opens.wait(0)
            self.assertEqual(opens.count, 0, "somebody opened /etc/shadow")
        finally:
            opens.close()

    def test_shadow(self):
        """A worker asks for /etc/shadow, as a table of every kind of file, and by other spellings of
        an approved path; denied, and the file is not opened."""
        own = self.place.table
        self.denied_without_a_look(
            [
                *(f"{kind}:/etc/shadow" for kind in ("texthash", "hash", "cdb", "unix", "regexp")),
                "/etc/shadow",
                "texthash:/etc/./shadow",
                f"{own}/../../../../../../etc/shadow",
                f"proxy:{own}/../../../etc/shadow",
                f"{own}%00/etc/shadow",
                "texthash:../../etc/shadow",
                "unix:passwd.byname%0a",
                f"unionmap:{{{own},texthash:/etc/shadow}}",
            ]
        )

    def test_name_with_control_characters(self):
        """A worker asks for a name with newlines and escapes; it is denied, and no line of the log
        is the name's."""
        mark = self.place.daemon.mark()
        name = "hash:/x%0ajailmapd: ready: forged by a name%0d%1b[2J%00"
        self.stopped(self.order(f"open_table {name}"), {"EACCES"})
        log = self.place.daemon.log(mark)
        self.assertRegex(log, "denied table .*ready: forged by a name")
        self.assertNotRegex(log, r"(?m)^jailmapd: ready|\x1b|\r|\0")

    def test_client_forged_in_event(self):
        """A worker has something to say of a client that is another's; the monitor ends it."""
        self.ended("event 1 5 hash:/x", "speaks of a client that it does not have")

    def test_no_answer_of_nothing(self):
        """A worker says that a table has no answers which it does not have; the monitor ends it."""
        self.ended("event 11 77 x", "speaks of a table that it does not have")
        self.ended("event 12 77 1", "speaks of a table that it does not have")

    def test_closes_another(self):
        """A worker closes a client that is another's; the monitor ends it."""
        self.ended("closed 5", "closes a client that it does not have")

    def test_closes_twice(self):
        """A worker closes its client twice, to make the count of clients wrong; the monitor ends
        it."""
        self.ended("closed_twice", "closes a client that it does not have")

    def test_approved_is_denied(self):
        """A worker reports the denial of a table that is approved; the monitor ends it."""
        self.ended(f"event 1 0 {self.place.table}", "denial of a table that is approved")

    def test_links_lost(self):
        """A worker says again and again that it has lost its link to an agent, which may as well be
        that agent's doing: it stays, and the next link comes later (agents_jailed.links_lost)."""
        self.outcome = self.order("lose_links 0")
        self.assertEqual(self.outcome, "done: 0")

    def flooded(self, order, reason):
        log = self.ended(order, reason)
        self.assertLess(len(log.splitlines()), 60, "lines in the log")
        self.assertLess(len(log), 64 << 10)

    def test_flood_of_denials(self):
        """A worker reports denials without end, to fill the log and the monitor's time; the monitor
        ends it after a bounded number of lines."""
        self.flooded("flood 7 1 0", "floods the monitor")

    def test_flood_of_closings(self):
        """A worker reports closed clients without end; the monitor ends it after few lines."""
        self.flooded("flood 7 2 0", "floods the monitor")

    def test_flood_of_complaints(self):
        """A worker complains about its image without end; the monitor ends it after few lines."""
        self.flooded("flood 7 5 0", "floods the monitor")

    def test_opens_and_does_not_read(self):
        """A worker asks for tables without end and reads no answer, to fill the monitor's memory;
        the monitor ends it."""
        self.flooded("open_deaf", "does not read the answers|floods the monitor")

    def test_many_names(self):
        """A worker asks for 2000 different names of 8 KB; each is denied, few are logged, and the
        monitor has not grown."""
        mark = self.place.daemon.mark()
        report = self.order("open_many 2000")
        self.outcome = report
        self.assertTrue(report.startswith("done: 2000"), report)
        self.assertLess(len(self.place.daemon.log(mark)), 256 << 10)

    def test_stalls(self):
        """A worker does not read any more while clients of its uid come; they are refused once its
        places are taken, and nobody else notices."""
        place = self.place
        mark = place.daemon.mark()
        client, uid = place.attacker()
        pid = place.worker_of(uid)
        client.send(o_lookup(place.table, "attack:stall", arena.PLAIN))
        others = [place.daemon.client(uid=uid, greeting=False) for _ in range(20)]
        place.daemon.wait_log(rf"refused client uid {uid} .*: (all its workers are full|its worker is too busy)", mark)
        self.outcome = "refused: " + place.daemon.wait_log(rf"refused client uid {uid} .*: (.*)", mark).group(1)
        place.vital()
        harness.kill(pid)
        for one in (client, *others):
            one.close()
        self.death(pid, uid, mark)
        place.vital()

    def test_spins(self):
        """A worker takes all the processor time that it can get; everybody else is served."""
        place = self.place
        mark = place.daemon.mark()
        client, uid = place.attacker()
        pid = place.worker_of(uid)
        with client:
            client.send(o_lookup(place.table, "attack:spin", arena.PLAIN))
            start = proc.ticks(pid)
            wait_for(lambda: proc.ticks(pid) > start + 10, "the worker to spin")
            place.vital()
            harness.kill(pid)
        self.outcome = "it burns its own share: " + self.death(pid, uid, mark)
        place.vital()

    def given_away(self, order):
        """Has a worker pass something of its own over its client's connection."""
        place = self.place
        mark = place.daemon.mark()
        client, uid = place.attacker()
        pid = place.worker_of(uid)
        with client:
            client.send(o_lookup(place.table, order, arena.PLAIN))
            try:
                fds = socket.recv_fds(client.socket, 1, 1)[1]
            except ConnectionResetError:
                fds = []
            self.outcome = self.death(pid, uid, mark)
        self.assertEqual(fds, [])
        self.assertIn("forbidden system call", self.outcome)
        place.vital()

    def test_bridge_given_away(self):
        """A worker gives its bridge to a client outside of the jail; it is killed as it tries."""
        self.given_away("attack:give_bridge")

    def test_image_given_away(self):
        """A worker gives its image to a client outside of the jail; it is killed as it tries."""
        self.given_away("attack:give_image")

    def test_denied_stays_denied(self):
        """After all that, the client protocol denies what the policy does not approve."""
        client, _ = self.place.attacker()
        with client:
            self.assertEqual(client.lookup(self.place.tables["victim"], "key")[0], DENY)



def add_events():
    for kind in (0, 6, 7, 8, 9, 13, 255):

        def test(self, kind=kind):
            self.ended(f"event {kind} 0 x", "reports an event that it cannot have")

        test.__doc__ = f"A worker reports event {kind}, which none of its clients can cause; the monitor ends it."
        setattr(LiesTest, f"test_event_{kind}", test)


add_events()


class HandbackTest(WorkerCase):
    """What a worn worker hands back when it is asked for its clients."""

    options = {"max-use": 3}

    def handed_back(self, what):
        place = self.place
        mark = place.daemon.mark()
        client, uid = place.attacker()
        pid = place.worker_of(uid)
        client.send(o_lookup(place.table, f"attack:handback {what}", arena.PLAIN))
        others = [place.daemon.client(uid=uid, greeting=False) for _ in range(3)]
        how = self.death(pid, uid, mark)
        self.outcome = "ended by the monitor: " + how
        self.assertRegex(how, "hands back what it was not given")
        for one in (client, *others):
            one.close()
        place.vital()


def add_handbacks():
    for name, what in {
        "bridge": "its bridge",
        "image": "its image",
        "null": "/dev/null",
        "another": "one client's connection as another's",
        "unknown": "a client that it does not have",
        "twice": "a client twice",
    }.items():

        def test(self, name=name):
            self.handed_back(name)

        test.__doc__ = f"A worker hands back {what}; the monitor ends it and closes what came."
        setattr(HandbackTest, f"test_handback_{name}", test)


add_handbacks()
