"""A dialer that its agent, or the name service, has taken over: what it tries to reach, and what it
tells its agent.

The agent is an attacker, too, and hands the orders on.
"""

import harness
from attempts import KILLED
from case import add_system_tests
from crew_case import CrewCase, net_tables
from protocol import OK
from test_agents_jailed import Banner
from waiting import wait_for

LANDLOCK = {"EACCES"}


class DialerCase(CrewCase):
    program = "jailmap-dialer"
    also = ("jailmap-agent-net",)

    @classmethod
    def tables(cls):
        cls.server = Banner().start()
        cls.addClassCleanup(cls.server.stop)
        return net_tables(cls.server, cls.count)

    def order(self, text, look=None):
        return super().order("tell_dialer " + text, look)

    def dialer_of(self, table):
        return self.place.titled(f"jailmap-dialer: {table}")

    def reported(self, pid, mark, client, table):
        """What the dialer reports, or how it died; then the agent goes as well."""
        status, value = client.call(b"")
        if status == OK and not value.startswith(b"EPIPE"):
            return value.decode().removeprefix("done: 0 ")
        match = self.place.daemon.wait_log(r"dialer pid \d+ for table \S+ died: (.*)\n", since=mark)
        harness.kill(pid)
        self.death(pid, mark)
        return match.group(1)


@add_system_tests("dialer", "A dialer that was taken over", bare=False)
class FilteredTest(DialerCase):
    """System calls of a dialer as it is."""

    def test_own_port(self):
        """A dialer connects to the port that its agent told it; nothing stops that."""
        self.outcome = self.order(f"connect_inet {self.server.port}")
        self.assertEqual(self.outcome, "done: 0")

    def test_name_server(self):
        """A dialer connects to a name server's port, though its agent told it an address; Landlock."""
        self.own("connect_inet 53", LANDLOCK)

    def test_bind(self):
        """A dialer takes a port of its own, for others to connect to; Landlock."""
        self.own("bind_port 0", LANDLOCK)

    def test_listen(self):
        """A dialer listens on a port that the kernel chooses; killed."""
        self.own("listen_anywhere", KILLED)

    def test_fast_open(self):
        """A dialer connects by a first packet, sendto(2), which Landlock does not see; killed."""
        self.own("fast_open_sendto {port}", KILLED)

    def test_fast_open_message(self):
        """A dialer connects by sendmsg(2); killed."""
        self.own("fast_open_sendmsg {port}", KILLED)

    def test_fast_open_messages(self):
        """A dialer connects by sendmmsg(2); killed."""
        self.own("fast_open_sendmmsg {port}", KILLED)

    def test_multipath(self):
        """A dialer connects by Multipath TCP, which Landlock does not see; killed."""
        self.own("connect_by {port} 2 262", KILLED)

    def test_sctp(self):
        """A dialer connects by SCTP; killed."""
        self.own("connect_by {port} 2 132", KILLED)

    def test_smc(self):
        """A dialer connects by SMC, which is TCP where the other end knows nothing else; killed."""
        self.own("connect_by {port} 43 0", KILLED)

    def test_smc_as_protocol(self):
        """A dialer connects by SMC as newer kernels have it; killed."""
        self.own("connect_by {port} 2 256", KILLED)

    def test_turned_into_smc(self):
        """A dialer has a socket of TCP become one of SMC, before it connects; killed."""
        self.own("other_protocol", KILLED)

    def test_vsock(self):
        """A dialer makes a socket to the machine that this one runs in; killed."""
        self.own("connect_by {port} 40 0", KILLED)


@add_system_tests("dialer", "A dialer without its filter", bare=True, few=True)
class BareTest(DialerCase):
    """The walls behind the filter: user, Landlock, limits, and the launcher's filter."""

    bare = True


class LiesTest(DialerCase):
    """What a dialer says to its agent, and to the monitor."""

    count = 12

    def test_connections_unasked(self):
        """A dialer hands over connections that nobody asked for; the agent keeps none of them."""

        def look(pid, _mark, client, table):
            self.assertEqual(client.call(b"")[0], OK)
            client.lookup(table, "key")  # a real question, for which it asks its dialer
            self.assertEqual(self.agent_of(table), pid)
            return "all closed"

        self.outcome = self.order("dialed_unasked 1000", look)

    def test_any_message(self):
        """A dialer sends the monitor a message, of which none is its to send; it is ended."""

        def look(pid, mark, client, _table):
            client.call(b"")
            match = self.place.daemon.wait_log(
                r"dialer pid \d+ for table \S+ died: (.*)\n", since=mark
            )
            harness.kill(pid)
            self.death(pid, mark)
            return match.group(1)

        self.outcome = self.order("malformed 9", look)
        self.assertIn("message that this sender may not send", self.outcome)

    def test_killed(self):
        """A dialer is killed; the agent and another dialer come in its place, and the table works."""

        def look(pid, mark, client, table):
            client.call(b"")
            harness.kill(self.dialer_of(table))
            self.place.daemon.wait_log(r"dialer pid \d+ for table \S+ died: signal 9", since=mark)
            harness.kill(pid)
            self.death(pid, mark)
            self.ready(table, client)
            wait_for(lambda: self.dialer_of(table), "a dialer")
            return "both anew"

        self.outcome = self.order("hello", look)
