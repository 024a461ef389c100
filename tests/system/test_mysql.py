"""mysql: tables, on a MariaDB of the test: see sql_cases.py.

Runs as root inside tests/system/run.
"""

import servers
from sql_cases import ServerTests
from table_case import TableCase


class MysqlTest(ServerTests, TableCase):
    """mysql: tables on a MariaDB."""

    server_class = servers.MariaDB
    sleeping = "SELECT v FROM t WHERE k='%s' AND SLEEP(1) = 0"
    collation = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

    def literal(self, key):
        return f"CONVERT(x'{key.encode().hex()}' USING utf8mb4)"

    def begin_count(self):
        self.server.forget_connections()

    def end_count(self, most):
        self.assertLessEqual(self.server.most_connections(), most + 1)

    def end_connections(self):
        self.server.sql("KILL USER mail", None)
