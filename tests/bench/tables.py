"""Tables that are asked for each key: mysql, pgsql, sqlite, pcre and cidr, next to proxymap.

Runs as root inside tests/bench/run. Type by type it starts the back end, jailmapd and a private
Postfix, which get the same file for the same back end, and drives them in turn with the same load.
It writes below the bench's directory only, and must never touch a database of the host's.

Half of the lookups find something. A rule is as likely to be the one that matches as any other.
A database runs on the same CPUs as the servers and load, and what it uses of them is shown apart:
it bounds what a faster server can gain. One table has a database that waits a millisecond before it
answers, as one elsewhere would: there it is the number of queries under way that counts.
"""

import os
import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from common import (
    KEY,
    VALUE,
    BenchError,
    Bystanders,
    Findings,
    Server,
    cpu_seconds,
    median_of,
    number_or_dash,
    process_tree,
    write_file,
)
from databases import (
    ENTRIES,
    SLOW_QUERY,
    cpu_of_threads,
    make_sqlite,
    start_mariadb,
    start_postgresql,
    write_cf_of_mariadb,
)
from lookups import (
    CONNECTIONS,
    PLACEMENTS,
    Point,
    Workload,
    is_of,
    measure,
    measure_all,
    ratios,
    runs_of,
    summarise,
    verify,
)
from servers import start_jailmapd, start_proxymap, wait_found, wait_ready

PCRE_RULES = 1_000
CIDR_RULES = 10_000
SERVERS = ("jailmapd", "proxymap")  # the floor says nothing here
REPETITIONS = 5  # the spread of ratios needs more of them than plain lookups do
WARM_UP = 0.2  # in which proxymaps are started, and log in
READY_SECONDS = 20
SQL_AIM = 3.0  # times proxymap, with most connections
ALONE_AIM = 1.0  # with one


@dataclass
class BackEnd:
    """Tables of a type, a key that they have, who serves the data (None: a file alone), and what
    only jailmapd must be told about them."""

    workloads: list
    key: str = KEY % 0
    database: Server = None
    options: str = ""

    def cpu(self):
        return cpu_of_threads(self.database) if self.database else 0.0

    def place(self, cpus):
        if self.database:
            self.database.place(cpus)


@dataclass(frozen=True)
class Kind:
    """A type of table: how to make one, and whether the aim for SQL is for it."""

    name: str
    make: Callable
    sql: bool


# ---- the tables ----------------------------------------------------------------------------------


def addresses(kind, name, title, path, count=ENTRIES):
    """Addresses that are there, and as many that are not."""
    load = ("-k", KEY, "-n", str(count), "-m", "0.5")
    exact = ("-k", KEY, "-n", str(count), "-v", VALUE)
    return Workload(name, title, kind, load, f"{kind}:{path}", exact)


def make_mysql(bench):
    database, path = start_mariadb(bench)
    slow = write_cf_of_mariadb(bench, "slow.cf", database, SLOW_QUERY)
    workloads = [
        addresses("mysql", "mysql", f"mysql, {ENTRIES:,} rows", path),
        addresses("mysql", "mysql-1ms", "mysql, a millisecond away", slow),
    ]
    return BackEnd(workloads, database=database)


def make_pgsql(bench):
    database, path = start_postgresql(bench)
    title = f"pgsql, {ENTRIES:,} rows"
    return BackEnd([addresses("pgsql", "pgsql", title, path)], database=database)


def make_sqlite_table(bench):
    file, path = make_sqlite(bench)
    title = f"sqlite, {ENTRIES:,} rows"
    workloads = [addresses("sqlite", "sqlite", title, path)]
    return BackEnd(workloads, options=f'database = "{file}"')


def make_pcre(bench):
    path = bench.path("pcre", "rules")
    rules = ((KEY % i).replace(".", r"\.") + f"$/ {VALUE % i}\n" for i in range(PCRE_RULES))
    write_file(path, "".join("/^" + rule for rule in rules))
    return BackEnd([addresses("pcre", "pcre", f"pcre, {PCRE_RULES:,} rules", path, PCRE_RULES)])


def make_cidr(bench):
    """Networks, and a last rule for all others: half of the keys go past all networks."""
    path = bench.path("cidr", "rules")
    networks = [f"10.{i // 256}.{i % 256}" for i in range(CIDR_RULES - 1)]
    rules = [f"{network}.0/24 {VALUE % i}\n" for i, network in enumerate(networks)]
    write_file(path, "".join(rules) + f"0.0.0.0/0 {VALUE % (CIDR_RULES - 1)}\n")
    values = [f"{network}.7\t{VALUE % i}\n" for i, network in enumerate(networks)]
    last = VALUE % (CIDR_RULES - 1)
    values += [f"172.16.{i // 256}.{i % 256}\t{last}\n" for i in range(CIDR_RULES)]
    write_file(bench.path("cidr", "values"), "".join(values))
    keys = (line.partition("\t")[0] + "\n" for line in values)
    write_file(bench.path("cidr", "keys"), "".join(keys))
    load = ("-k", bench.path("cidr", "keys"))
    exact = ("-k", bench.path("cidr", "values"))
    title = f"cidr, {CIDR_RULES:,} rules"
    return BackEnd([Workload("cidr", title, "cidr", load, f"cidr:{path}", exact)], "10.0.0.7")


KINDS = (
    Kind("mysql", make_mysql, True),
    Kind("pgsql", make_pgsql, True),
    Kind("sqlite", make_sqlite_table, True),
    Kind("pcre", make_pcre, False),
    Kind("cidr", make_cidr, False),
)


# ---- measuring -----------------------------------------------------------------------------------


def start_both(bench, plan, kind, back_end, findings):
    """Servers that answer the tables. One that does not is a failure, and the other goes on."""
    tables = [workload.table for workload in back_end.workloads]
    servers = []
    for name, start, more in (
        ("jailmapd", start_jailmapd, {"options": back_end.options}),
        ("proxymap", start_proxymap, {}),
    ):
        if name not in plan.servers:
            continue
        try:
            server = start(bench, f"tables-{kind.name}-{name}", tables, **more)
            wait_ready(server)
            for table in tables:
                wait_found(server, table, back_end.key, READY_SECONDS)
            servers.append(server)
        except BenchError as error:
            findings.failures.append(str(error))
    return servers


def pool_of(server):
    """The processes that ask back ends, and their CPU: the agents, or the proxymaps that run."""
    pool = {}
    for pid in process_tree(server.process.pid):
        try:
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except FileNotFoundError:
            continue
        if name == "proxymap" or name.startswith("jailmap-agent-"):
            pool[pid] = cpu_seconds(pid)
    return pool


def measure_with(back_end):
    """Like measure(), with the database's CPU, and the processes that have answered.

    The pool is looked at before the warm-up ends: a proxymap that has served its 100 clients is
    gone as soon as they are.
    """

    def one(bench, server, point, plan):
        back_end.place({max(plan.everywhere)} if point.placement == "one" else plan.everywhere)
        before, during, spent = pool_of(server), {}, back_end.cpu()
        looker = threading.Timer(0.7 * plan.warm_up, lambda: during.update(pool_of(server)))
        looker.start()
        result = measure(bench, server, point, plan)
        looker.join()
        lookups = max(1, result["lookups_in_whole_run"])
        result["back_end_cpu_us_per_lookup"] = (back_end.cpu() - spent) / lookups * 1e6
        result["pool"] = len(during)
        result["answering"] = sum(used > before.get(pid, 0.0) for pid, used in during.items())
        return result

    return one


def measure_kind(bench, plan, kind, placements, findings):
    """All about one type: its rows and runs go into the findings. The share of others, or None."""
    try:
        back_end = kind.make(bench)
    except BenchError as error:
        findings.failures.append(str(error))
        return None
    servers = start_both(bench, plan, kind, back_end, findings)
    findings.failures += verify(bench, servers, back_end.workloads, plan.everywhere)
    bystanders = Bystanders(servers)
    spent = back_end.cpu()
    points = [
        Point(workload, placement, connections)
        for workload in back_end.workloads
        for placement in placements
        for connections in CONNECTIONS
    ]
    results, wrong = measure_all(bench, servers, points, plan, measure_with(back_end))
    findings.failures += wrong
    rows = summarise(points, SERVERS, results)
    add_to_rows(points, rows, results)
    findings.rows += rows
    findings.runs += runs_of(results)
    findings.workloads += back_end.workloads
    findings.lines += table_lines(points, rows)
    return bystanders.share(back_end.cpu() - spent)


def add_to_rows(points, rows, results):
    for row in rows:
        point = next(point for point in points if is_of(row, point))
        mine = results[point, row["server"]]
        for name in ("back_end_cpu_us_per_lookup", "pool", "answering"):
            row[name] = median_of(mine, name)
        found = ratios(mine, results.get((point, "proxymap"), []))
        row["ratio_to_proxymap_min"] = min(found, default=None)
        row["ratio_to_proxymap_max"] = max(found, default=None)


# ---- reporting -----------------------------------------------------------------------------------


def table_lines(points, rows):
    heading = (
        f"{'conns':>5}  {'server':<9}{'lookups/s':>10}{'spread':>8}{'p50 us':>9}{'p99 us':>9}"
        f"{'CPU us':>8}{'database':>9}{'procs':>9}{'/proxymap':>11}{'from':>7}{'to':>7}"
    )
    lines = []
    title = None
    for point in points:
        if point.title() != title:
            title = point.title()
            lines += ["", title, heading]
        lines += [row_line(row) for row in rows if is_of(row, point)]
    return lines


def row_line(row):
    compared = row["server"] != "proxymap"
    of_ratio = [
        number_or_dash(row[name] if compared else None, ".2f")
        for name in ("ratio_to_proxymap", "ratio_to_proxymap_min", "ratio_to_proxymap_max")
    ]
    return (
        f"{row['connections']:>5}  {row['server']:<9}{row['lookups_per_s']:>10,.0f}"
        f"{'±' + format(100 * row['spread'], '.0f') + ' %':>8}"
        f"{row['p50_us']:>9.1f}{row['p99_us']:>9.1f}{row['cpu_us_per_lookup']:>8.1f}"
        f"{row['back_end_cpu_us_per_lookup']:>9.1f}"
        f"{row['answering']:>4.0f} of{row['pool']:>2.0f}"
        f"{of_ratio[0]:>11}{of_ratio[1]:>7}{of_ratio[2]:>7}"
    )


def verdict(row, aim):
    """An aim is met by the median; close by, it is for the reader to judge."""
    if row is None or row["ratio_to_proxymap"] is None:
        return "not measured"
    if row["ratio_to_proxymap"] >= aim:
        outcome = "met"
    elif row["ratio_to_proxymap_max"] >= aim:
        outcome = "missed, within the spread"
    else:
        outcome = "missed"
    return f"{row['ratio_to_proxymap']:.2f} ({outcome})"


def aim_lines(rows, placements):
    ours = {
        (row["workload"], row["placement"], row["connections"]): row
        for row in rows
        if row["server"] == "jailmapd"
    }
    most = max(CONNECTIONS)
    lines = [
        "",
        f"Aims: {SQL_AIM:g} times proxymap on SQL with {most} connections, never less with one",
    ]
    for placement in placements:
        for kinds, connections, aim in (
            ([kind for kind in KINDS if kind.sql], most, SQL_AIM),
            (KINDS, 1, ALONE_AIM),
        ):
            verdicts = (
                f"{kind.name} {verdict(ours.get((kind.name, placement, connections)), aim)}"
                for kind in kinds
            )
            lines.append(f"  {PLACEMENTS[placement]}, {connections}: {', '.join(verdicts)}")
    return lines


HEADING = (
    "",
    "Tables that are asked for each key; half of the keys are not there (cidr: in its last rule).",
    "A database shares the CPUs of the servers. CPU us: of the server for one lookup; database: of",
    "the database; procs: those that answered, of the pool or of the proxymaps that ran;",
    "/proxymap: ratio of lookups/s, and its range.",
)


def asked_for_each_key(bench, plan, options):
    """One type after the other, so that only one database runs at a time."""
    findings = Findings(lines=list(HEADING))
    placements = ["one"] if plan.quick else options.placements
    repetitions = options.repetitions or (1 if plan.quick else REPETITIONS)
    plan = replace(plan, repetitions=repetitions, warm_up=WARM_UP)
    shares = []
    for kind in KINDS:
        try:
            shares.append(measure_kind(bench, plan, kind, placements, findings))
        finally:
            bench.stop_all()
    known = [share for share in shares if share is not None]
    if known:
        findings.about["share_of_machine_used_by_others"] = round(statistics.mean(known), 3)
    findings.about["placements"] = placements
    findings.lines += aim_lines(findings.rows, placements)
    return findings
