"""MariaDB, PostgreSQL and SQLite with a table of addresses each, for the part tables of the bench.

Runs as root inside tests/bench/run. The servers run as a user without privilege, with the defaults
of their Debian packages, on a UNIX socket below the bench's directory and nowhere else. It must
never touch a database of the host's, or what configures one, and ends what it started by pid.
"""

import glob
import os
import pwd
import shutil
import socket
import sqlite3
import time

from common import (
    KEY,
    VALUE,
    BenchError,
    Server,
    cpu_seconds,
    reaped_cpu_seconds,
    threads_of,
    write_file,
)

ENTRIES = 100_000
OWNER = "daemon"  # Debian's base system has it, and neither jailmapd nor Postfix runs as it here
PASSWORD = "of-the-bench"
LOGIN = ("user = mail", f"password = {PASSWORD}")
QUERY = "SELECT value FROM addresses WHERE address = '%s'"
# The same from a MariaDB that is a millisecond away: it waits once, also if there is no such row.
SLOW_QUERY = "SELECT value FROM (SELECT SLEEP(0.001)) AS wait LEFT JOIN addresses ON address = '%s'"
COLUMNS = "address VARCHAR(100) PRIMARY KEY, value VARCHAR(100)"
READY_SECONDS = 30


def write_cf(path, *lines, query=QUERY):
    """What both servers read, with the permissions that it has where there is a password in it."""
    write_file(path, "\n".join(lines) + f"\nquery = {query}\n", 0o640)
    shutil.chown(path, "root", "postfix")
    return path


def make_directory(bench, *parts):
    path = bench.path(*parts)
    os.makedirs(path)
    owner = pwd.getpwnam(OWNER)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def wait_until(ready, database):
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if database.process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{database.name} does not answer\n{database.log_text()}")
        time.sleep(0.05)


def cpu_of_threads(database):
    """CPU seconds that a database has used, all its processes and threads together.

    A thread that has ended is missing: MariaDB keeps the threads of connections that have ended.
    """
    while True:
        reaped = reaped_cpu_seconds(database.process.pid)
        spent = sum(cpu_seconds(thread) for thread in threads_of(database.process.pid))
        if reaped == reaped_cpu_seconds(database.process.pid):  # else one may be in neither
            return reaped + spent


# ---- MariaDB -------------------------------------------------------------------------------------


def start_mariadb(bench):
    """Returns the server and the file for mysql:, once it accepts connections."""
    data = make_directory(bench, "mariadb", "data")
    path = os.path.join(make_directory(bench, "mariadb", "run"), "socket")
    statements = (
        "CREATE DATABASE mail",
        f"CREATE TABLE mail.addresses ({COLUMNS})",
        "INSERT INTO mail.addresses SELECT "
        + ", ".join(f"CONCAT({mariadb_format(text)})" for text in (KEY, VALUE))
        + f" FROM mail.seq_0_to_{ENTRIES - 1}",
        f"CREATE USER mail@localhost IDENTIFIED BY '{PASSWORD}'",
        "GRANT SELECT ON mail.* TO mail@localhost",
    )
    script = bench.path("mariadb", "init.sql")
    write_file(script, "".join(f"{statement};\n" for statement in statements))
    bench.must_run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={OWNER}"]
        + ["--auth-root-authentication-method=normal", "--skip-test-db"]
    )
    process, log = bench.start(
        "mariadb-server",
        ["mariadbd", "--no-defaults", f"--user={OWNER}", f"--datadir={data}", f"--socket={path}"]
        + ["--skip-networking", f"--init-file={script}", f"--pid-file={path}.pid"],
    )
    database = Server("mariadb", process, [log], {"": path})
    wait_until(lambda: connects(path), database)  # it listens when the script is done
    return database, write_cf_of_mariadb(bench, "table.cf", database)


def write_cf_of_mariadb(bench, name, database, query=QUERY):
    host = f"hosts = unix:{database.socket()}"
    return write_cf(bench.path("mariadb", name), host, *LOGIN, "dbname = mail", query=query)


def mariadb_format(text):
    """What CONCAT() takes for a text with one %05d, of the column that a sequence table has."""
    before, after = text.split("%05d")
    return f"'{before}', LPAD(seq, 5, '0'), '{after}'"


def connects(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


# ---- PostgreSQL ----------------------------------------------------------------------------------


def postgresql_programs():
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not found:
        raise BenchError("PostgreSQL is not installed: apt-get install postgresql-15")
    return os.path.dirname(max(found, key=lambda path: int(path.split("/")[4])))


def start_postgresql(bench):
    """Returns the server and the file for pgsql:, once it accepts connections."""
    programs = postgresql_programs()
    owner = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
    data = make_directory(bench, "postgresql", "data")
    os.chmod(data, 0o700)
    run = make_directory(bench, "postgresql", "run")
    first = bench.path("postgresql", "password")
    write_file(first, PASSWORD + "\n")
    bench.must_run(
        [*owner, f"{programs}/initdb", "-D", data, "-U", OWNER, "-A", "scram-sha-256", "-N"]
        + ["--pwfile", first, "-E", "UTF8", "--no-locale"],
        cwd="/",
    )
    statements = (
        f"CREATE TABLE addresses ({COLUMNS})",
        "INSERT INTO addresses SELECT "
        + ", ".join(f"format({postgresql_format(text)})" for text in (KEY, VALUE))
        + f" FROM generate_series(0, {ENTRIES - 1}) AS seq",
        f"CREATE ROLE mail LOGIN PASSWORD '{PASSWORD}'",
        "GRANT SELECT ON addresses TO mail",
        "VACUUM ANALYZE addresses",
    )
    script = bench.path("postgresql", "init.sql")
    write_file(script, "".join(f"{statement}\n" for statement in statements))
    single = 'script=$1; shift; exec "$@" <"$script"'
    argv = ["sh", "-c", single, "sh", script, *owner, f"{programs}/postgres", "--single"]
    output = bench.must_run([*argv, "-D", data, "postgres"], cwd="/")
    if "ERROR" in output:
        raise BenchError(f"PostgreSQL did not make its table\n{output.rstrip()}")
    process, log = bench.start(
        "postgresql-server",
        [*owner, f"{programs}/postgres", "-D", data]
        + ["-c", "listen_addresses=", "-c", f"unix_socket_directories={run}"],
    )
    database = Server("postgresql", process, [log], {"": run})
    ready = [f"{programs}/pg_isready", "-q", "-h", run]
    wait_until(lambda: bench.run(ready)[0] == 0, database)
    host = f"hosts = unix:{run}"
    path = bench.path("postgresql", "table.cf")
    return database, write_cf(path, host, *LOGIN, "dbname = postgres")


def postgresql_format(text):
    """What format() takes for a text with one %05d."""
    before, after = text.split("%05d")
    return f"'{before}%s{after}', lpad(seq::text, 5, '0')"


# ---- SQLite --------------------------------------------------------------------------------------


def make_sqlite(bench):
    """Returns the database file and the file for sqlite:."""
    path = bench.path("sqlite", "addresses.sqlite")
    os.makedirs(os.path.dirname(path))
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE addresses ({COLUMNS})")
        rows = ((KEY % i, VALUE % i) for i in range(ENTRIES))
        database.executemany("INSERT INTO addresses VALUES (?, ?)", rows)
    database.close()
    return path, write_cf(bench.path("sqlite", "table.cf"), f"dbpath = {path}")
