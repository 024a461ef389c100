"""pgsql: tables, on a PostgreSQL of the test: see sql_cases.py.

Runs as root inside tests/system/run.
"""

import servers
from sql_cases import ServerTests
from table_case import TableCase


class PgsqlTest(ServerTests, TableCase):
    """pgsql: tables on a PostgreSQL."""

    server_class = servers.PostgreSQL
    sleeping = "SELECT v FROM t, pg_sleep(1) WHERE k='%s'"

    def forms_of_host(self):
        return [*super().forms_of_host(), self.server.uri]

    def literal(self, key):
        return f"convert_from('\\x{key.encode().hex()}', 'UTF8')"

    def end_connections(self):
        self.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mail'"
        )
