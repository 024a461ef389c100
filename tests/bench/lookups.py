"""Lookups a second: the same measurement for any servers, tables, placements and connections.

Runs as root inside tests/bench/run. It drives servers that the bench started, and changes nothing.
Three parts of the bench use it: lookups (hash and passwd in depth), types (every table type, on one
CPU) and users (passwd with 10,000 users).
"""

import os
import pwd
import shutil
import statistics
from dataclasses import dataclass

from common import (
    KEY,
    LOAD,
    VALUE,
    BenchError,
    Bystanders,
    Findings,
    Progress,
    describe_errors,
    load_report,
    median_of,
    number_or_dash,
    place_load,
    process_tree,
    write_file,
)
from servers import (
    WITH_ETC,
    body,
    make_table,
    start_floor,
    start_jailmapd,
    start_proxymap,
    wait_found,
    wait_ready,
)

ENTRIES = 100_000
INLINE_ENTRIES = 10
USERS = 10_000
MISS = ("-m", "1")
CONNECTIONS = (1, 8, 64)
PLACEMENTS = {"one": "load and server on one CPU", "free": "placed by the scheduler"}


@dataclass(frozen=True)
class Workload:
    """Keys for a table. `exact`: what else load takes to compare every value, () if nothing can."""

    name: str
    title: str
    source: str
    load: tuple
    table: str
    exact: tuple = ()


@dataclass(frozen=True)
class Point:
    """What is measured: everything but the server and the repetition."""

    workload: Workload
    placement: str
    connections: int

    def title(self):
        return f"{self.workload.title}, {PLACEMENTS[self.placement]}"


# ---- workloads -----------------------------------------------------------------------------------


def pattern_workloads(name, title, table, count=ENTRIES, missing=True):
    """Keys found and keys not found of a table as servers.body() makes it."""
    keys = ("-k", KEY, "-n", str(count))
    found = Workload(f"{name}-hit", f"{title}: keys found", "value", keys, table, ("-v", VALUE))
    if not missing:
        return [found]
    return [found, Workload(f"{name}-miss", f"{title}: not found", "value", keys + MISS, table)]


def write_users(bench, name, users):
    """Key files of users: names, and names with what passwd says. Returns an average length."""
    values = [":".join(str(part) for part in user) for user in users]
    write_file(bench.path(name), "".join(f"{user.pw_name}\n" for user in users))
    lines = (f"{user.pw_name}\t{value}\n" for user, value in zip(users, values))
    write_file(bench.path(f"{name}-values"), "".join(lines))
    return round(statistics.mean(len(value.encode()) for value in values))


def passwd_workloads(bench, name, title, keys, source):
    """The users of a key file that write_users() made."""
    table = "unix:passwd.byname"
    load = ("-k", bench.path(keys))
    exact = ("-k", bench.path(f"{keys}-values"))
    return [
        Workload(f"{name}-hit", f"{title}: found", source, load, table, exact),
        Workload(f"{name}-miss", f"{title}: not found", source, load + MISS, table),
    ]


def host_users():
    return [pwd.getpwnam(user) for user in sorted({entry.pw_name for entry in pwd.getpwall()})]


# ---- measuring -----------------------------------------------------------------------------------


def run_load(bench, server, workload, cpus, *options, wrapper=()):
    """One run of load. Returns its report; raises BenchError if it could not measure."""
    argv = [*wrapper, LOAD, "-s", server.socket(workload.source), "-o", "json"]
    argv += [*workload.load, *options, workload.table]
    status, output = bench.run(argv, preexec_fn=place_load(cpus))
    return load_report(argv, status, output), output


def measure(bench, server, point, plan):
    cpus = {max(plan.everywhere)} if point.placement == "one" else plan.everywhere
    server.place(cpus)
    before = server.cpu_snapshot()
    options = ["-c", str(point.connections), "-t", str(plan.seconds), "-w", str(plan.warm_up)]
    result, _ = run_load(bench, server, point.workload, cpus, *options)
    after = server.cpu_snapshot()
    grown = {pid: used - before.get(pid, 0.0) for pid, used in after.items()}
    # A process that ended in between is counted again in what its parent has reaped.
    ended = sum(used for pid, used in before.items() if pid not in after)
    total = sum(grown.values()) - ended
    lookups = max(1, result["lookups_in_whole_run"])
    result["cpu_us_per_lookup"] = max(0.0, total) / lookups * 1e6
    working = [pid for pid, used in grown.items() if pid != "reaped" and used > 0.02 * total]
    result["processes"] = len(working)
    return result


def verify(bench, servers, workloads, everywhere):
    """Asks for real values, which the timed runs do not compare since the floor has none."""
    failures = []
    for workload in workloads:
        for server in servers:
            if not workload.exact or server.name == "floor" or not server.socket(workload.source):
                continue
            server.place(everywhere)
            options = [*workload.exact, "-c", "4", "-t", "0.3", "-w", "0"]
            options += ["-m", "0.5"] if not workload.table.startswith("static:") else []
            result, _ = run_load(bench, server, workload, everywhere, *options)
            if result["errors"]:
                failures.append(describe_errors(server, workload.title, result))
    return failures


def measure_all(bench, servers, points, plan, one=measure):
    """Repetition by repetition, point by point, server by server: A B C A B C ...

    `one` makes a measurement, and its report has at least what that of measure() has.
    """
    results = {}
    failures = []
    work = [
        (point, server)
        for _ in range(plan.repetitions)
        for point in points
        for server in servers
        if server.socket(point.workload.source)
    ]
    progress = Progress(len(work), plan.seconds + plan.warm_up + 0.05)
    for point, server in work:
        where = "one CPU" if point.placement == "one" else "free"
        progress.step(f"{server.name}, {point.workload.name}, {point.connections} conns, {where}")
        result = one(bench, server, point, plan)
        results.setdefault((point, server.name), []).append(result)
        if result["errors"]:
            failures.append(describe_errors(server, point.title(), result))
    progress.end()
    return results, failures


def count_system_calls(bench, servers, workloads, everywhere):
    """System calls a lookup, counted by perf(1) from the kernel's own event: {(server, c): n}."""
    counts = {}
    if shutil.which("perf") is None:
        return counts
    workload = workloads[0]
    for server in servers:
        if not server.socket(workload.source):
            continue
        server.place(everywhere)
        for connections in (1, 64):
            pids = ",".join(str(pid) for pid in process_tree(server.process.pid))
            wrapper = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", pids, "--"]
            try:
                result, output = run_load(
                    bench,
                    server,
                    workload,
                    everywhere,
                    "-c",
                    str(connections),
                    "-t",
                    "0.4",
                    "-w",
                    "0",
                    wrapper=wrapper,
                )
            except BenchError:
                return {}
            for line in output.splitlines():
                if "raw_syscalls:sys_enter" in line and line.split(",")[0].isdigit():
                    lookups = max(1, result["lookups_in_whole_run"])
                    counts[server.name, connections] = int(line.split(",")[0]) / lookups
    return counts


# ---- reporting -----------------------------------------------------------------------------------


def ratios(results, others):
    """The ratios of throughput within each repetition."""
    pairs = [(a["lookups_per_s"], b["lookups_per_s"]) for a, b in zip(results, others)]
    return [a / b for a, b in pairs if b > 0]


def ratio(results, others):
    """Their median, or None."""
    found = ratios(results, others)
    return statistics.median(found) if found else None


def summarise(points, names, results):
    """One row for each point and server, with plain names: what the table, CSV and plots show."""
    rows = []
    for point in points:
        for name in names:
            mine = results.get((point, name), [])
            if not mine:
                continue
            rates = [result["lookups_per_s"] for result in mine]
            middle = statistics.median(rates)
            rows.append(
                {
                    "workload": point.workload.name,
                    "placement": point.placement,
                    "connections": point.connections,
                    "server": name,
                    "repetitions": len(mine),
                    "lookups_per_s": round(middle, 1),
                    "lookups_per_s_min": min(rates),
                    "lookups_per_s_max": max(rates),
                    "spread": (max(rates) - min(rates)) / 2 / middle if middle else 0,
                    "p50_us": median_of(mine, "p50_us"),
                    "p90_us": median_of(mine, "p90_us"),
                    "p99_us": median_of(mine, "p99_us"),
                    "p99.9_us": median_of(mine, "p99.9_us"),
                    "max_us": max(result["max_us"] for result in mine),
                    "cpu_us_per_lookup": median_of(mine, "cpu_us_per_lookup"),
                    "load_cpu_us_per_lookup": median_of(mine, "load_cpu_us_per_lookup"),
                    "processes": round(median_of(mine, "processes")),
                    "ratio_to_floor": ratio(mine, results.get((point, "floor"), [])),
                    "ratio_to_proxymap": ratio(mine, results.get((point, "proxymap"), [])),
                    "errors": sum(result["errors"] for result in mine),
                }
            )
    return rows


def table_lines(points, rows):
    heading = (
        f"{'conns':>5}  {'server':<9}{'lookups/s':>10}{'spread':>8}{'p50 us':>9}{'p99 us':>9}"
        f"{'p99.9 us':>10}{'CPU us':>8}{'procs':>6}{'/floor':>8}{'/proxymap':>11}"
    )
    lines = []
    title = None
    for point in points:
        if point.title() != title:
            title = point.title()
            lines += ["", title, heading]
        for row in rows:
            if not is_of(row, point):
                continue
            lines.append(
                f"{row['connections']:>5}  {row['server']:<9}{row['lookups_per_s']:>10,.0f}"
                f"{'±' + format(100 * row['spread'], '.0f') + ' %':>8}"
                f"{row['p50_us']:>9.1f}{row['p99_us']:>9.1f}{row['p99.9_us']:>10.1f}"
                f"{row['cpu_us_per_lookup']:>8.2f}{row['processes']:>6}"
                f"{number_or_dash(row['ratio_to_floor'], '.2f'):>8}"
                f"{number_or_dash(row['ratio_to_proxymap'], '.1f'):>11}"
            )
    return lines


def system_call_lines(counts, names):
    if not counts:
        return ["", "System calls a lookup were not counted: that takes perf(1) and its events."]
    lines = [
        "",
        "System calls a lookup (hash, found; all processes of the server; setting up included)",
    ]
    for name in names:
        parts = [f"{n:.2f} at {c}" for (server, c), n in counts.items() if server == name]
        lines.append(f"       {name:<9}{', '.join(parts)} connections")
    return lines


TYPE_HEADING = (
    f"{'table':<23}{'asked for':<11}{'conns':>5}{'jailmapd/s':>12}{'proxymap/s':>12}"
    f"{'floor/s':>11}{'/floor':>8}{'/proxymap':>11}"
)


def compact_lines(points, rows):
    """One line for each point, the servers next to each other."""
    lines = [TYPE_HEADING]
    for point in points:
        name, _, what = point.workload.name.rpartition("-")
        mine = {row["server"]: row for row in rows if is_of(row, point)}
        rates = [
            number_or_dash(mine[server]["lookups_per_s"] if server in mine else None, ",.0f")
            for server in ("jailmapd", "proxymap", "floor")
        ]
        ours = mine.get("jailmapd", {})
        lines.append(
            f"{name:<23}{'found' if what == 'hit' else 'not there':<11}{point.connections:>5}"
            f"{rates[0]:>12}{rates[1]:>12}{rates[2]:>11}"
            f"{number_or_dash(ours.get('ratio_to_floor'), '.2f'):>8}"
            f"{number_or_dash(ours.get('ratio_to_proxymap'), '.1f'):>11}"
        )
    return lines


def is_of(row, point):
    return (row["workload"], row["placement"], row["connections"]) == (
        point.workload.name,
        point.placement,
        point.connections,
    )


def runs_of(results):
    """Every single run, for the JSON."""
    return [
        {
            "workload": point.workload.name,
            "placement": point.placement,
            "server": name,
            "repetition": repetition,
            **{key: value for key, value in result.items() if key != "table"},
        }
        for (point, name), repetitions in results.items()
        for repetition, result in enumerate(repetitions)
    ]


# ---- the parts -----------------------------------------------------------------------------------


def start_servers(bench, plan, part, tables, lengths):
    """The three servers, or those that are wanted, for the same tables, with all of them loaded."""
    servers = []
    if "floor" in plan.servers:
        servers += start_floor(bench, lengths)
    if "jailmapd" in plan.servers:
        servers.append(start_jailmapd(bench, f"{part}-jailmapd", tables))
    if "proxymap" in plan.servers:
        servers.append(start_proxymap(bench, f"{part}-proxymap", tables))
    for server in servers:
        wait_ready(server)
    for server in servers[len(lengths) if "floor" in plan.servers else 0 :]:
        for table in tables:
            wait_found(server, table, "root" if table.startswith("unix:") else KEY % 0)
    return servers


def measure_points(bench, servers, points, plan, findings):
    """Verifies, measures and summarises."""
    workloads = list(dict.fromkeys(point.workload for point in points))
    findings.failures += verify(bench, servers, workloads, plan.everywhere)
    bystanders = Bystanders(servers)
    results, wrong = measure_all(bench, servers, points, plan)
    findings.failures += wrong
    findings.about["share_of_machine_used_by_others"] = round(bystanders.share(), 3)
    findings.rows = summarise(points, plan.servers, results)
    findings.runs = runs_of(results)


def in_depth(bench, plan, options):
    """Hash and passwd: every number of connections, both placements, latency, system calls."""
    findings = Findings()
    table = f"hash:{bench.path('lookups', 'table')}"
    make_table(bench, table, body(ENTRIES))
    users = host_users()
    length = write_users(bench, "users", users)
    workloads = pattern_workloads("hash", f"hash, {ENTRIES:,} entries", table)
    title = f"unix:passwd.byname, {len(users)} users"
    workloads += passwd_workloads(bench, "passwd", title, "users", "passwd")
    if options.workloads:
        workloads = [w for w in workloads if w.name in options.workloads.split(",")]
    tables = [table, "unix:passwd.byname"]
    lengths = {"value": len(VALUE % 0), "passwd": length}
    servers = start_servers(bench, plan, "lookups", tables, lengths)
    points = [
        Point(workload, placement, connections)
        for workload in workloads
        for placement in options.placements
        for connections in options.connections
    ]
    measure_points(bench, servers, points, plan, findings)
    counts = count_system_calls(bench, servers, workloads, plan.everywhere)
    findings.about["system_calls_per_lookup"] = {
        f"{name} at {c}": n for (name, c), n in counts.items()
    }
    findings.lines = table_lines(points, findings.rows) + system_call_lines(counts, plan.servers)
    findings.lines += [
        "",
        "CPU us: server CPU for one lookup; procs: server processes at work; /floor, /proxymap: "
        "ratios of",
        "lookups/s.",
    ]
    findings.workloads = workloads
    return findings


def type_workloads(bench):
    """A table of every type. The text is the same where there is one, 100,000 entries long."""
    workloads = []
    text = body(ENTRIES)
    for kind in ("hash", "btree", "cdb", "lmdb", "texthash"):
        table = f"{kind}:{bench.path('types', kind)}"
        make_table(bench, table, text)
        workloads += pattern_workloads(kind, kind, table)
    entries = ", ".join(f"{{{KEY % i} = {VALUE % i}}}" for i in range(INLINE_ENTRIES))
    workloads += pattern_workloads("inline", "inline", f"inline:{{{entries}}}", INLINE_ENTRIES)
    lines = (f"{KEY % i}\t{VALUE % 0}\n" for i in range(1000))
    write_file(bench.path("types", "any"), "".join(lines))
    keys = ("-k", KEY, "-n", "1000")
    exact = ("-k", bench.path("types", "any"))
    workloads.append(Workload("static-hit", "static", "value", keys, f"static:{VALUE % 0}", exact))
    return workloads


def every_type(bench, plan, options):
    """Each table type next to the same type in proxymap, on one CPU."""
    findings = Findings()
    workloads = type_workloads(bench)
    length = write_users(bench, "users", host_users())
    workloads += passwd_workloads(bench, "unix:passwd.byname", "", "users", "passwd")
    tables = list(dict.fromkeys(workload.table for workload in workloads))
    lengths = {"value": len(VALUE % 0), "passwd": length}
    servers = start_servers(bench, plan, "types", tables, lengths)
    connections = (8,) if plan.quick else (8, 64)
    points = [Point(workload, "one", c) for workload in workloads for c in connections]
    measure_points(bench, servers, points, plan, findings)
    findings.lines = [
        "",
        f"Every table type, {PLACEMENTS['one']}; {ENTRIES:,} entries in tables with files,",
        f"{INLINE_ENTRIES} inline, this host's users; lookups a second",
        *compact_lines(points, findings.rows),
    ]
    return findings


def make_etc(bench, name, passwd_line):
    """A copy of /etc with 10,000 more users, and with a line of its own in nsswitch.conf."""
    etc = bench.path("etc-of-users", name)
    os.makedirs(bench.path("etc-of-users"), exist_ok=True)
    bench.must_run(["cp", "-a", "/etc", etc])
    with open(os.path.join(etc, "passwd"), "a", encoding="utf-8") as file:
        file.writelines(passwd_line_of(user) + "\n" for user in many_users())
    path = os.path.join(etc, "nsswitch.conf")
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(f"{passwd_line}\n" if line.startswith("passwd:") else line)
    return etc


def many_users():
    return [
        pwd.struct_passwd(
            (f"bench{i:05}", "x", 200000 + i, 200000, "", f"/home/bench{i:05}", "/bin/sh")
        )
        for i in range(USERS)
    ]


def passwd_line_of(user):
    return ":".join(str(part) for part in user)


def host_passwd_line():
    """This host's line of nsswitch.conf, without repeated blanks."""
    with open("/etc/nsswitch.conf", encoding="utf-8") as file:
        for line in file:
            if line.startswith("passwd:"):
                return " ".join(line.partition("#")[0].split())
    return "passwd: files"


def ten_thousand_users(bench, plan, _options):
    """unix:passwd.byname where proxymap has a long file to search, in a private copy of /etc."""
    findings = Findings()
    length = write_users(bench, "many-users", many_users())
    table = "unix:passwd.byname"
    servers = start_floor(bench, {"users": length}) if "floor" in plan.servers else []
    points = []
    for number, line in enumerate(dict.fromkeys(("passwd: files", host_passwd_line()))):
        source = f"etc{number}"
        wrapper = (*WITH_ETC, make_etc(bench, source, line))
        for name, start in (("jailmapd", start_jailmapd), ("proxymap", start_proxymap)):
            if name in plan.servers:
                server = start(bench, f"users-{name}-{number}", [table], wrapper=wrapper)
                server.sockets = {source: server.socket()}
                servers.append(server)
        for floor in servers[:1] if "floor" in plan.servers else ():
            floor.sockets[source] = floor.socket("users")
        workloads = passwd_workloads(bench, line, f"{USERS:,} users", "many-users", source)
        points += [Point(workload, "one", 8) for workload in workloads]
    for server in servers:
        wait_ready(server)
    measure_points(bench, servers, points, plan, findings)
    findings.lines = [
        "",
        f"unix:passwd.byname, {USERS:,} users in /etc/passwd, {PLACEMENTS['one']};",
        "the table column is the line in nsswitch.conf (where another service follows files, it is",
        "asked for users that are not there, and so is the file once more); lookups a second",
        *compact_lines(points, findings.rows),
    ]
    return findings
