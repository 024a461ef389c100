"""Servers that tables ask: MariaDB, PostgreSQL, and ones that speak socketmap and tcp_table.

Used inside tests/system/run (and by benchmarks), as root. Databases are Debian's own programs with
data, sockets and accounts of their own below a private directory, as an unprivileged user, on a UNIX
socket and, if asked, a free port of the loopback address. The others are threads of the test. All of
them end with the run, by pid. It must never touch the host's own databases, nor /etc/mysql and
/etc/postgresql.

    with servers.MariaDB() as db:                # or servers.shared(servers.MariaDB)
        db.sql("CREATE TABLE t (k VARCHAR(99), v TEXT)")
        cf = db.cf(query="SELECT v FROM t WHERE k='%s'")
    with servers.Socketmap({b"map key": b"OK value"}) as maps:
        table = maps.table("map")                # socketmap:inet:127.0.0.1:PORT:map
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.parse

import harness
import proc
from harness import PATH, workspace
from private_postfix import free_ports
from waiting import LIMIT, wait_for

USER = pwd.getpwnam("nobody")
# The account that tables use. The administrator's is root, whom the socket knows by the kernel.
ACCOUNT, PASSWORD, DATABASE = "mail", "a secret of the table", "mail"


def configuration(**parameters):
    """The text of a .cf file."""
    return "".join(f"{name} = {value}\n" for name, value in parameters.items())


class Database:
    """A database server in a directory of its own; see MariaDB and PostgreSQL."""

    name = kind = None
    _templates = {}

    def __init__(self, directory=None, port=False, log_queries=False):
        """port: also listen on a port of the loopback address. log_queries: see queries()."""
        private = directory is None
        self.directory = directory or workspace().directory(self.name)
        os.chmod(self.directory, 0o755)
        self.data = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "log")
        self.query_log = os.path.join(self.directory, "data", "queries.log")
        self.wants_port, self.log_queries = port, log_queries
        self.port = None
        self.process = None
        self.stopped = {}
        if private:
            workspace().at_end(self.stop)

    # ---- what the two differ in ----

    def initialize(self, data):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def accept_account(self):
        raise NotImplementedError

    def client(self, database):
        raise NotImplementedError

    # ---- life ----

    def unprivileged(self, *command):
        return [
            "setpriv",
            f"--reuid={USER.pw_uid}",
            f"--regid={USER.pw_gid}",
            "--clear-groups",
            "--no-new-privs",
            "--pdeathsig=TERM",
            *command,
        ]

    def own(self, path, mode=0o700):
        os.makedirs(path, exist_ok=True)
        os.chown(path, USER.pw_uid, USER.pw_gid)
        os.chmod(path, mode)

    def prepare_data(self):
        """The data of a new server: made once for all servers of a run, and copied."""
        template = self._templates.get(self.kind)
        if template is None or not os.path.exists(template):
            template = os.path.join(self.directory, "template")
            self.own(template)
            self.initialize(template)
            self._templates[self.kind] = template
        subprocess.run(["cp", "-a", "--reflink=auto", template, self.data], check=True)

    def checked(self, command, **options):
        """Runs a program that prepares something, to its end."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C", "TMPDIR": "/tmp"},
            cwd="/",
            check=False,
            **options,
        )
        if done.returncode != 0:
            raise AssertionError(f"{command} failed:\n{done.stdout.decode(errors='replace')}")

    def start(self):
        """Starts it, with what it had before, and waits until it answers."""
        first = not os.path.exists(self.data)
        if first:
            self.prepare_data()
            self.own(os.path.join(self.directory, "socket"), 0o755)
        for _ in range(10):
            if self.wants_port and self.port is None:
                (self.port,) = free_ports(1)
            with open(self.log_path, "ab") as log:
                begin = log.tell()
                self.process = harness.start(
                    self.unprivileged(*self.command()), stdout=log, stderr=log
                )
            wait_for(
                lambda: self.answers() or self.process.poll() is not None,
                lambda: f"{self.name} to start:\n{self.log()[-4000:]}",
            )
            if self.process.poll() is None:
                break
            harness.registry.remove(self.process)
            self.process = None
            if not first or "ddress already in use" not in self.log()[begin:]:
                raise AssertionError(f"{self.name} did not start:\n{self.log()[-4000:]}")
            self.port = None
        if first:
            self.accept_account()
        return self

    def answers(self):
        return self.try_sql("SELECT 1", None) is not None

    def log(self):
        try:
            return proc.read(self.log_path)
        except FileNotFoundError:
            return ""

    def all_processes(self):
        """pid -> start time of the server and everything below it."""
        taken = proc.snapshot(self.process.pid)
        fields = proc.stat_fields(self.process.pid)
        return {self.process.pid: fields[2], **taken} if fields else taken

    def end(self, number, once=False):
        """Ends it with a signal; all its processes with the same, unless `once`."""
        if self.process is None:
            return
        self.resume()
        below = self.all_processes()
        if self.process.poll() is None:
            for pid in [self.process.pid] if once else below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        harness.wait_exit(self.process, f"{self.name} to end")
        harness.wait_ended(below, f"all processes of {self.name} to end")
        self.process = None

    def stop(self):
        """An orderly end, that waits for no client."""
        self.end(signal.SIGTERM, once=True)

    def kill(self):
        """kill -9 of all its processes."""
        self.end(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def pause(self):
        """Stops all its processes where they are: connections are accepted by the kernel, and
        nobody answers."""
        # What it is about to start would go on.
        while self.all_processes().keys() - self.stopped.keys():
            for pid, begun in self.all_processes().items():
                if pid not in self.stopped and proc.survivors({pid: begun}):
                    os.kill(pid, signal.SIGSTOP)
                    self.stopped[pid] = begun
        for pid in self.stopped:
            wait_for(
                lambda pid=pid: (proc.stat_fields(pid) or "X")[0] in "TZX", f"pid {pid} to stop"
            )

    def resume(self):
        for pid in proc.survivors(self.stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped = {}

    # ---- use ----

    def try_sql(self, text, database):
        done = subprocess.run(
            self.client(database),
            input=text if isinstance(text, bytes) else text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
            cwd="/",
            timeout=LIMIT,
            check=False,
        )
        self.error = done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None

    def sql(self, text, database=DATABASE):
        """Runs statements as the administrator; returns what they print: a line for each row, tabs
        between columns."""
        out = self.try_sql(text, database)
        if out is None:
            raise AssertionError(f"{self.name} does not do {text[:500]!r}: {self.error}")
        return out

    def queries(self):
        """What it was asked, as it wrote it down; needs log_queries."""
        return proc.read(self.query_log, "rb")

    @property
    def inet(self):
        """What `hosts` says of its port."""
        return f"inet:127.0.0.1:{self.port}"

    def cf(self, **parameters):
        """The text of a .cf file for the account: hosts (its socket) and more, unless given."""
        base = {"hosts": self.hosts, "user": ACCOUNT, "password": PASSWORD, "dbname": DATABASE}
        return configuration(**{**base, **parameters})

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        self.stop()


class MariaDB(Database):
    name, kind = "mariadb", "mysql"
    SMALL = (
        "--innodb-log-file-size=4M",
        "--innodb-buffer-pool-size=8M",
        "--innodb-data-file-path=ibdata1:4M:autoextend",
        "--innodb-temp-data-file-path=ibtmp1:4M:autoextend",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-flush-method=nosync",
        "--innodb-use-native-aio=0",
        "--sync-frm=0",
        "--key-buffer-size=1M",
        "--aria-pagecache-buffer-size=1M",
        "--performance-schema=OFF",
    )

    @property
    def socket(self):
        return os.path.join(self.directory, "socket", "mysqld.sock")

    @property
    def hosts(self):
        return "unix:" + self.socket

    def initialize(self, data):
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            self.own(scratch)
            self.checked(
                self.unprivileged(
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--tmpdir={scratch}",
                    "--skip-test-db",
                    "--auth-root-authentication-method=socket",
                    "--auth-root-socket-user=root",
                    *self.SMALL,
                )
            )

    def command(self):
        listen = (
            ["--bind-address=127.0.0.1", f"--port={self.port}"]
            if self.port
            else ["--skip-networking"]
        )
        log = (
            ["--general-log=1", f"--general-log-file={self.query_log}"] if self.log_queries else []
        )
        return [
            "mariadbd",
            "--no-defaults",
            f"--datadir={self.data}",
            f"--tmpdir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={os.path.join(self.data, 'pid')}",
            "--max-connections=400",
            "--back-log=400",
            "--max-allowed-packet=16M",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--character-set-server=utf8mb4",
            *listen,
            *log,
            *self.SMALL,
        ]

    def accept_account(self):
        self.sql(
            f"CREATE DATABASE {DATABASE};"
            f"CREATE USER '{ACCOUNT}'@'%' IDENTIFIED BY '{PASSWORD}';"
            f"GRANT ALL ON {DATABASE}.* TO '{ACCOUNT}'@'%';",
            None,
        )

    def set_password(self, password):
        self.sql(f"ALTER USER '{ACCOUNT}'@'%' IDENTIFIED BY '{password}'", None)

    def client(self, database):
        command = [
            "mariadb",
            "--no-defaults",
            "--user=root",
            f"--socket={self.socket}",
            "--protocol=socket",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=16M",
        ]
        return [*command, database] if database else command

    def connections(self):
        """How many connections the account has."""
        return int(
            self.sql(
                f"SELECT COUNT(*) FROM information_schema.processlist WHERE user='{ACCOUNT}'", None
            )
        )

    def most_connections(self):
        """The most connections at a time since forget_connections(), with the one that asks."""
        return int(self.sql("SHOW STATUS LIKE 'Max_used_connections'", None).split()[1])

    def forget_connections(self):
        self.sql("FLUSH STATUS", None)

    def connections_made(self):
        """How many connections there have been, with those that ask."""
        return int(self.sql("SHOW GLOBAL STATUS LIKE 'Connections'", None).split()[1])


class PostgreSQL(Database):
    name, kind = "postgresql", "pgsql"

    @property
    def programs(self):
        root = "/usr/lib/postgresql"
        return os.path.join(root, max(os.listdir(root), key=int), "bin")

    @property
    def socket(self):
        """The directory that libpq is told of; the socket is .s.PGSQL.5432 in it."""
        return os.path.join(self.directory, "socket")

    @property
    def hosts(self):
        return f"unix:{self.socket}"

    def initialize(self, data):
        self.checked(
            self.unprivileged(
                os.path.join(self.programs, "initdb"),
                f"--pgdata={data}",
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "--username=root",
                "--auth=scram-sha-256",
                "--auth-local=peer",
                "--wal-segsize=1",
            )
        )
        with open(os.path.join(data, "pg_hba.conf"), "w", encoding="ascii") as rules:
            rules.write(
                "local all root peer\n"
                "local all all scram-sha-256\n"
                "host all all 127.0.0.1/32 scram-sha-256\n"
            )

    def command(self):
        options = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": self.port or 5432,
            "unix_socket_directories": self.socket,
            "fsync": "off",
            "full_page_writes": "off",
            "wal_level": "minimal",
            "max_wal_senders": 0,
            "min_wal_size": "2MB",
            "max_wal_size": "64MB",
            "shared_buffers": "4MB",
            "dynamic_shared_memory_type": "mmap",
            "max_connections": 100,
            "autovacuum": "off",
            "jit": "off",
            "log_statement": "all" if self.log_queries else "none",
        }
        return [
            os.path.join(self.programs, "postgres"),
            "-D",
            self.data,
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ]

    def accept_account(self):
        self.sql(f"CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'", None)
        self.sql(f"CREATE DATABASE {DATABASE} OWNER {ACCOUNT}", None)

    def set_password(self, password):
        self.sql(f"ALTER ROLE {ACCOUNT} PASSWORD '{password}'", None)

    def client(self, database):
        return [
            os.path.join(self.programs, "psql"),
            f"--host={self.socket}",
            f"--port={self.port or 5432}",
            "--username=root",
            f"--dbname={database or 'postgres'}",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
        ]

    def queries(self):
        return proc.read(self.log_path, "rb")

    def start(self):
        super().start()
        # Where libpq looks for it when it is told the directory only, whatever the port is.
        if self.port:
            usual = os.path.join(self.socket, ".s.PGSQL.5432")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(usual)
            os.symlink(f".s.PGSQL.{self.port}", usual)
        return self

    def stop(self):
        self.end(signal.SIGINT, once=True)  # SIGTERM would wait for clients to leave.
        self.forget_segment()

    def kill(self):
        super().kill()
        self.forget_segment()

    def forget_segment(self):
        """Removes the one segment of System V shared memory that a killed server leaves behind."""
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
                lines = file.read().splitlines()
            if len(lines) > 6 and len(lines[6].split()) == 2:
                subprocess.run(
                    ["ipcrm", "-m", lines[6].split()[1]], stderr=subprocess.DEVNULL, check=False
                )

    @property
    def uri(self):
        """Its port, the account and the database in one, as `hosts` may say it, too."""
        word = urllib.parse.quote(PASSWORD)
        return f"postgresql://{ACCOUNT}:{word}@127.0.0.1:{self.port}/{DATABASE}"

    def connections(self):
        """How many connections the account has."""
        return int(
            self.sql(f"SELECT COUNT(*) FROM pg_stat_activity WHERE usename='{ACCOUNT}'", None)
        )


_shared = {}


def shared(kind, **options):
    """One running server for all tests that do it no harm: MariaDB or PostgreSQL. Ends with the
    run."""
    key = kind, tuple(sorted(options.items()))
    if key not in _shared:
        _shared[key] = kind(**options).start()
    return _shared[key]


# ---- servers of the test itself ----


class Listener:
    """A listening socket whose connections are served in threads; counts them and what it was
    asked.

    answers: {request: what is said to it}: bytes; a list, of which the first is taken each time and
    the last one stays; None, which closes the connection; a function of the request that returns one
    of these. What is asked for and not in there gets `other`. While hold() is on, no answer leaves.
    """

    missing = b""

    def __init__(self, answers=None, path=None, other=None):
        self.answers = answers if answers is not None else {}
        self.other = self.missing if other is None else other
        self.path = path
        self.port = None
        self.lock = threading.Lock()
        self.connections = 0
        self.asked = []
        self.open = set()
        self.free = threading.Event()
        self.free.set()
        self.socket = None
        if harness._workspace is not None:
            workspace().at_end(self.stop)

    def start(self):
        """Listens: at `path`, or on a free port, which stays the same for a second start()."""
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(self.path)
            os.chmod(self.path, 0o666)
        else:
            self.socket = socket.socket()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(("127.0.0.1", self.port or 0))
            self.port = self.socket.getsockname()[1]
        self.socket.listen(400)
        threading.Thread(target=self.accept, args=(self.socket,), daemon=True).start()
        return self

    @property
    def endpoint(self):
        return f"unix:{self.path}" if self.path else f"inet:127.0.0.1:{self.port}"

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.socket is not listener:
                    connection.close()
                    return
                self.connections += 1
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, ValueError, EOFError), connection:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as stream:
                while (request := self.read(stream)) is not None:
                    with self.lock:
                        self.asked.append(request)
                    answer = self.answer(request)
                    self.free.wait()
                    if answer is None:
                        break
                    connection.sendall(self.frame(answer))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.open.discard(connection)

    def answer(self, request):
        with self.lock:
            answer = self.answers.get(request, self.other)
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer(request) if callable(answer) else answer

    def read(self, stream):
        """The next request, or None at the end."""
        raise NotImplementedError

    def frame(self, answer):
        """The bytes of an answer. A `Raw` goes as it is."""
        raise NotImplementedError

    def count(self, request=None):
        """How often it was asked at all, or that."""
        with self.lock:
            return len(self.asked) if request is None else self.asked.count(request)

    def wait_asked(self, count, request=None):
        wait_for(lambda: self.count(request) >= count, f"{count} questions to a {type(self)}")

    def hold(self):
        """From now on answers wait until release()."""
        self.free.clear()

    def release(self):
        self.free.set()

    def drop(self):
        """Ends all connections."""
        with self.lock:
            ended = list(self.open)
        for connection in ended:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self):
        """Stops listening and ends all connections; start() can follow."""
        listener, self.socket = self.socket, None
        self.free.set()
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def __enter__(self):
        return self.start() if self.socket is None else self

    def __exit__(self, *_):
        self.stop()


class Raw(bytes):
    """An answer that is sent without the frame of the protocol."""


class Socketmap(Listener):
    """answers: {b"MAP KEY": b"OK value"}."""

    missing = b"NOTFOUND "

    def table(self, name):
        return f"socketmap:{self.endpoint}:{name}"

    def read(self, stream):
        digits = b""
        while (byte := stream.read(1)) != b":":
            if not byte.isdigit():
                return None
            digits += byte
        request = stream.read(int(digits))
        return request if stream.read(1) == b"," else None

    def frame(self, answer):
        return answer if isinstance(answer, Raw) else b"%d:%s," % (len(answer), answer)


class TcpTable(Listener):
    """answers: {b"key as it is on the wire": b"200 value"}."""

    missing = b"500 not there"

    @property
    def table(self):
        return f"tcp:127.0.0.1:{self.port}"

    def read(self, stream):
        line = stream.readline()
        return line[4:-1] if line.startswith(b"get ") and line.endswith(b"\n") else None

    def frame(self, answer):
        return answer if isinstance(answer, Raw) else answer + b"\n"


class Silent(Listener):
    """Accepts and never says a word: counts connections, and how many bytes came."""

    def __init__(self, **options):
        super().__init__(**options)
        self.bytes = 0

    def table(self, name):
        return f"socketmap:{self.endpoint}:{name}"

    def serve(self, connection):
        with contextlib.suppress(OSError):
            while block := connection.recv(65536):
                self.bytes += len(block)
        with self.lock:
            self.open.discard(connection)
        connection.close()


class Swallower:
    """A port of the loopback address that swallows: its backlog is full and nobody accepts, so a
    connection is neither made nor refused."""

    def __init__(self):
        self.port, self.sockets = None, []

    def start(self):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        self.sockets = [listener]
        while True:
            probe = socket.socket()
            probe.settimeout(0.3)  # One that is made is made at once: the kernel alone does it.
            self.sockets.append(probe)
            try:
                probe.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return self

    @property
    def inet(self):
        return f"inet:127.0.0.1:{self.port}"

    def stop(self):
        for part in self.sockets:
            part.close()
        self.sockets = []

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def remove(server):
    """Ends a database and removes its directory."""
    server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)
