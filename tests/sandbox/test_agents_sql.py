"""Agents of MariaDB and PostgreSQL that a server, or a key, has taken over: outside the jail, with a
list of what they may ask of the kernel, and Landlock.

There is no server of databases: an agent that waits for the greeting of one is asked, too.
"""

import servers
from attempts import KILLED
from case import add_system_tests
from crew_case import CrewCase, sql_tables


class SqlCase(CrewCase):
    kind = None

    @classmethod
    def tables(cls):
        cls.server = servers.Silent().start()
        cls.addClassCleanup(cls.server.stop)
        return sql_tables(cls.kind, cls.server, cls.count)


class MysqlCase(SqlCase):
    program, kind = "jailmap-agent-mysql", "mysql"


class PgsqlCase(SqlCase):
    program, kind = "jailmap-agent-pgsql", "pgsql"


@add_system_tests("mysql", "A MariaDB agent that was taken over", bare=False, prefix="mysql_")
class MysqlTest(MysqlCase):
    """System calls of an agent of MariaDB as it is."""

    def test_mysql_lock(self):
        """A MariaDB agent locks its file for as long as the monitor has it open; killed."""
        self.own("lock_description source", KILLED)

    def test_mysql_others_file(self):
        """A MariaDB agent reads the file, and so the password, of another table; Landlock."""
        self.own(f"open_read {self.names[0].partition(':')[2]}", {"EACCES"})

    def test_mysql_write(self):
        """A MariaDB agent writes into its file; killed."""
        self.own("file_write source", KILLED)


@add_system_tests("pgsql", "A PostgreSQL agent that was taken over", bare=False, prefix="pgsql_", few=True)
class PgsqlTest(PgsqlCase):
    """System calls of an agent of PostgreSQL as it is."""

    def test_pgsql_lock(self):
        """A PostgreSQL agent locks its file for as long as the monitor has it open; killed."""
        self.own("lock_description source", KILLED)

    def test_pgsql_others_file(self):
        """A PostgreSQL agent reads the file, and so the password, of another table; Landlock."""
        self.own(f"open_read {self.names[0].partition(':')[2]}", {"EACCES"})

    def test_pgsql_write(self):
        """A PostgreSQL agent writes into its file; killed."""
        self.own("file_write source", KILLED)


@add_system_tests("mysql", "A MariaDB agent without its filter", bare=True, prefix="mysql_")
class BareMysqlTest(MysqlCase):
    """The walls behind the filter: user, Landlock, limits, and the launcher's filter."""

    bare = True


class BarePgsqlTest(PgsqlCase):
    """Whether the other agent enters Landlock, too."""

    bare, count = True, 4

    def test_pgsql_bare_others_file(self):
        """A PostgreSQL agent without its filter reads the file of another table; Landlock."""
        self.own(f"open_read {self.names[0].partition(':')[2]}", {"EACCES"})

    def test_pgsql_bare_connect_inet(self):
        """A PostgreSQL agent without its filter connects to a server of its choice; Landlock."""
        self.own("connect_inet {port}", {"EACCES"})

    def test_pgsql_bare_connect_abstract(self):
        """A PostgreSQL agent without its filter connects to an abstract socket; Landlock."""
        self.own("connect_local {abstract}", {"EPERM"})
