"""What changing a table costs: how soon it is seen, who waits meanwhile, who is told wrong things.

Runs as root inside tests/bench/run. It rebuilds tables below the bench's directory, the way that
administrators do: with the real postmap(1), with cp over the file, and with a rename.

Freshness is measured on one connection that asks for one key again and again; a rebuild gives that
key a new value. The clock starts when postmap has exited (texthash: after the rename).

Stalls are measured by load, whose maximum is exact, on 8 connections that ask without a pause: load
and worker are busy on a CPU each, so that anything else that runs takes CPU away from them. What
the reload itself costs is told apart by comparison: quiet; a rename of a prepared file, which
leaves only the reload, next to a program that only burns CPU, scheduled as a loader is; cp and
postmap in place, next to a program that burns CPU as they do. These take turns.
"""

import contextlib
import os
import signal
import statistics
import threading
import time

from client import OK, Client
from common import (
    KEY,
    Background,
    BenchError,
    Bystanders,
    Findings,
    Progress,
    describe_errors,
    median_of,
)
from servers import (
    body,
    file_of,
    generation,
    make_table,
    postmap_argv,
    start_jailmapd,
    start_proxymap,
    wait_found,
    wait_generation,
    wait_ready,
)

# ---- freshness -----------------------------------------------------------------------------------

MARK = "version"  # the key whose value changes
LATE = 0.1  # seconds after a rebuild: a lookup that begins later should see the new data
WINDOW = 0.13  # lookups go on at least so long after a rebuild
PAUSE = 0.0005  # between lookups, so that the one who asks takes no CPU from the loader
PATIENCE = 30
KINDS = ("hash", "btree", "cdb", "lmdb", "texthash")


class Subject:
    """A table that is rebuilt, and what was seen of it."""

    def __init__(self, bench, kind, entries):
        self.kind = kind
        self.entries = entries
        self.table = f"{kind}:{bench.path('freshness', f'{kind}-{entries}')}"
        self.bench = bench
        self.text = body(entries - 1)
        self.version = 0
        self.milliseconds = []
        self.late = self.late_and_old = 0
        self.failures = []
        make_table(bench, self.table, self.content())

    def content(self):
        return f"{MARK} {self.version}\n{self.text}"

    def rebuild(self):
        """Makes the next version. Returns when that was done."""
        self.version += 1
        path = self.table.partition(":")[2]
        source = f"{path}.new" if self.kind == "texthash" else path
        with open(source, "w", encoding="utf-8") as file:
            file.write(self.content())
        if self.kind == "texthash":
            os.rename(source, path)
        else:
            self.bench.must_run(postmap_argv(self.bench, self.table))
        return time.monotonic()

    def observe(self, client, returned):
        """Asks until the new value has been seen, and the window has passed."""
        first = None
        while first is None or time.monotonic() < returned + WINDOW:
            began = time.monotonic()
            status, value = client.lookup(MARK)
            ended = time.monotonic()
            new = (status, value) == (OK, str(self.version))
            old = (status, value) == (OK, str(self.version - 1))
            if not new and not (old and first is None):
                self.fail(f"status {status}, value {value!r}, after {ended - returned:.3f} s")
                return
            if new and first is None:
                first = ended
                self.milliseconds.append((first - returned) * 1000)
            if began >= returned + LATE:
                self.late += 1
                self.late_and_old += old
            if first is None and ended > returned + PATIENCE:
                self.fail(f"still old {PATIENCE} s after the rebuild")
                return
            time.sleep(PAUSE)

    def fail(self, what):
        self.failures.append(f"freshness of {self.table}, version {self.version}: {what}")

    def row(self):
        times = sorted(self.milliseconds) or [0]
        return {
            "table": self.kind,
            "entries": self.entries,
            "rebuilds": len(self.milliseconds),
            "median_ms": statistics.median(times),
            "p99_ms": times[max(0, -(-99 * len(times) // 100) - 1)],
            "max_ms": times[-1],
            "rebuilds_over_100_ms": sum(one > LATE * 1000 for one in times),
            "lookups_after_100_ms": self.late,
            "of_these_old": self.late_and_old,
        }


def freshness(bench, plan, _options):
    """The part: rebuilds of tables of all types and sizes take turns."""
    findings = Findings()
    sizes = {100: plan.rebuilds, 10_000: plan.rebuilds, 100_000: -(-plan.rebuilds // 3)}
    if plan.quick:
        del sizes[100_000]
    subjects = {Subject(bench, kind, size): sizes[size] for size in sizes for kind in KINDS}
    server = start_jailmapd(bench, "freshness-jailmapd", [one.table for one in subjects])
    wait_ready(server)
    bystanders = Bystanders([server])
    progress = Progress(sum(subjects.values()), 0.5)
    with contextlib.ExitStack() as stack:
        clients = {}
        for one in subjects:
            wait_found(server, one.table, MARK)
            clients[one] = stack.enter_context(Client(server.socket(), one.table))
        for turn in range(max(subjects.values())):
            for one in (one for one, rebuilds in subjects.items() if turn < rebuilds):
                progress.step(f"freshness, {one.kind}, {one.entries:,} entries")
                one.observe(clients[one], one.rebuild())
    progress.end()
    findings.about["share_of_machine_used_by_others"] = round(bystanders.share(), 3)
    findings.rows = [one.row() for one in subjects]
    findings.runs = [
        {"table": one.kind, "entries": one.entries, "milliseconds": one.milliseconds}
        for one in subjects
    ]
    findings.failures = [failure for one in subjects for failure in one.failures]
    findings.lines = freshness_lines(findings.rows)
    return findings


def freshness_lines(rows):
    lines = [
        "",
        "Freshness: from the end of postmap (texthash: a rename) to the first new answer, in ms",
        f"{'table':<10}{'entries':>9}{'rebuilds':>10}{'median':>9}{'p99':>9}{'max':>9}"
        f"{'over 100 ms':>13}{'began after 100 ms':>20}{'and saw old data':>18}",
    ]
    for row in rows:
        share = row["of_these_old"] / max(1, row["lookups_after_100_ms"])
        lines.append(
            f"{row['table']:<10}{row['entries']:>9,}{row['rebuilds']:>10}{row['median_ms']:>9.1f}"
            f"{row['p99_ms']:>9.1f}{row['max_ms']:>9.1f}"
            f"{row['rebuilds_over_100_ms']:>13}{row['lookups_after_100_ms']:>20,}"
            f"{100 * share:>16.2f} %"
        )
    return lines + ["over 100 ms: rebuilds whose first new answer came later than that."]


# ---- stalls --------------------------------------------------------------------------------------

# What goes on meanwhile, and for how many seconds: postmap of a million entries takes its time.
CONDITIONS = {"quiet": 4, "background": 4, "rename": 5, "burner": 5, "cp": 5, "postmap": 13}
SAYS = {
    "quiet": "nothing else",
    "background": "a CPU burner like a loader",
    "burner": "a CPU burner like cp or postmap",
    "rename": "rename of a prepared file",
    "cp": "cp of a prepared file, in place",
    "postmap": "postmap, in place",
}

# Starts a server next to a program that would burn CPU as a loader does (niceness, policy, and the
# server's session), but is stopped. Its pid goes to a file, the first argument.
WITH_BURNER = (
    "sh",
    "-c",
    """nice -n 10 chrt -b 0 sh -c 'kill -STOP $$; while :; do :; done' &
    burner=$!
    echo $burner >"$0"
    "$@" &
    daemon=$!
    trap 'kill -KILL $burner; kill $daemon' TERM
    wait $daemon
    wait $daemon""",
)


class Replacer(threading.Thread):
    """Replaces a table again and again: the next time when the server has what was there."""

    def __init__(self, bench, server, table, how):
        super().__init__()
        self.bench = bench
        self.server = server
        self.table = table
        self.file = file_of(table)
        self.how = how
        self.turn = 0
        self.enough = threading.Event()
        self.failure = None
        self.replaced = 0

    def replace(self):
        self.turn += 1
        prepared = f"{self.file}.{self.turn % 2}"
        if self.how == "rename":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.file}.new")
            os.link(prepared, f"{self.file}.new")
            os.rename(f"{self.file}.new", self.file)
        elif self.how == "cp":
            self.bench.must_run(["cp", prepared, self.file])
        else:
            self.bench.must_run(postmap_argv(self.bench, self.table))

    def run(self):
        try:
            while not self.enough.is_set():
                before = generation(self.server, self.table)
                self.replace()
                if not wait_generation(self.server, self.table, before):
                    self.failure = f"not loaded again after {self.how}"
                    return
                self.replaced += 1
        except (BenchError, OSError) as error:
            self.failure = str(error)

    def finish(self):
        self.enough.set()
        self.join()


@contextlib.contextmanager
def burning(bench, server, how):
    """A CPU burner until the end of the block: one of its own, or that of the server's session."""
    if how == "burner":
        burner = bench.start_quiet(["sh", "-c", "while :; do :; done"])
        yield
        burner.kill()
        burner.communicate()
        bench.started.remove(burner)
        return
    with open(os.path.join(server.directory, "burner"), encoding="ascii") as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGCONT)
    yield
    os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def going_on(bench, server, table, how):
    """Does it until the end of the block; yields the Replacer, or None if nothing is replaced."""
    if how == "quiet":
        yield None
    elif how in ("background", "burner"):
        with burning(bench, server, how):
            yield None
    else:
        replacer = Replacer(bench, server, table, how)
        replacer.start()
        try:
            yield replacer
        finally:
            replacer.finish()


def prepare_stall(bench, entries):
    """The table, and two prepared files. All have the same content; renames need two files, and
    one that a rename has put in place must not be the one that cp writes to."""
    table = f"hash:{bench.path('stall', 'table')}"
    make_table(bench, table, body(entries))
    for number in (0, 1):
        bench.must_run(["cp", file_of(table), f"{file_of(table)}.{number}"])
    return table


def own_file(bench, table):
    """Gives the table a file of its own again, after renames of prepared ones."""
    bench.must_run(["cp", f"{file_of(table)}.0", f"{file_of(table)}.new"])
    os.rename(f"{file_of(table)}.new", file_of(table))


def stall_once(bench, server, table, entries, how, seconds):
    """load next to one condition. Returns (report, failures)."""
    options = ["-s", server.socket(), "-k", KEY, "-n", str(entries), "-c", "8"]
    load = Background(bench, *options, "-t", str(seconds), "-w", "0.3", table)
    time.sleep(0.2)  # it warms up for 0.3 s
    with going_on(bench, server, table, how) as replacer:
        result = load.wait()
    result.update(how=how, reloads=replacer.replaced if replacer else 0)
    failures = []
    if result["errors"]:
        failures.append(describe_errors(server, f"stall, {how}", result))
    if replacer and (replacer.failure or not replacer.replaced):
        failures.append(f"stall, {how}: {replacer.failure or 'nothing was reloaded'}")
    if how == "rename":
        before = generation(server, table)
        own_file(bench, table)
        wait_generation(server, table, before)
    return result, failures


def stall(bench, plan, _options):
    """The part: the longest wait for an answer, quiet and while the table is replaced."""
    findings = Findings()
    entries = 100_000 if plan.quick else 1_000_000
    table = prepare_stall(bench, entries)
    name = "stall-jailmapd"
    wrapper = (*WITH_BURNER, bench.path(name, "burner"))
    server = start_jailmapd(bench, name, [table], wrapper=wrapper)
    wait_ready(server)
    wait_found(server, table, KEY % 0)
    results = {how: [] for how in CONDITIONS}
    bystanders = Bystanders([server])
    progress = Progress(plan.repetitions * len(CONDITIONS), 8)
    for _ in range(plan.repetitions):
        for how in CONDITIONS:
            progress.step(f"stall, {how}")
            seconds = 1.5 if plan.quick else CONDITIONS[how]
            result, failures = stall_once(bench, server, table, entries, how, seconds)
            results[how].append(result)
            findings.failures += failures
    progress.end()
    findings.about["share_of_machine_used_by_others"] = round(bystanders.share(), 3)
    findings.rows = [stall_row(how, entries, results[how]) for how in CONDITIONS]
    findings.runs = [result for how in CONDITIONS for result in results[how]]
    findings.lines = stall_lines(entries, findings.rows)
    return findings


def stall_row(how, entries, results):
    return {
        "meanwhile": how,
        "entries": entries,
        "connections": 8,
        "repetitions": len(results),
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "reloads": sum(result["reloads"] for result in results),
        "lookups_per_s": median_of(results, "lookups_per_s"),
        "p50_us": median_of(results, "p50_us"),
        "p99_us": median_of(results, "p99_us"),
        "p99.9_us": median_of(results, "p99.9_us"),
        "max_us_median": median_of(results, "max_us"),
        "max_us": max(result["max_us"] for result in results),
        "lookups": sum(result["lookups_in_whole_run"] for result in results),
        "errors": sum(result["errors"] for result in results),
    }


def stall_lines(entries, rows):
    lines = [
        "",
        f"hash, {entries:,} entries, 8 connections, placed by the scheduler: waits for an answer",
        f"{'meanwhile':<33}{'seconds':>8}{'reloads':>9}{'lookups/s':>11}{'p50 us':>9}{'p99.9 us':>10}"
        f"{'max ms':>9}{'worst ms':>10}{'failed':>8}",
    ]
    for row in rows:
        lines.append(
            f"{SAYS[row['meanwhile']]:<33}{row['seconds']:>8.1f}{row['reloads']:>9}"
            f"{row['lookups_per_s']:>11,.0f}{row['p50_us']:>9.1f}{row['p99.9_us']:>10.1f}"
            f"{row['max_us_median'] / 1000:>9.2f}{row['max_us'] / 1000:>10.2f}{row['errors']:>8}"
        )
    return lines + ["max: the median of the repetitions' longest waits; worst: of all repetitions."]


# ---- growth --------------------------------------------------------------------------------------


def growth(bench, plan, _options):
    """The part: a hash table grows in place under load. Every key asked for is in both versions."""
    findings = Findings()
    small, large = (10_000, 25_000) if plan.quick else (100_000, 250_000)
    starts = {"jailmapd": start_jailmapd, "proxymap": start_proxymap}
    results = {name: [] for name in starts if name in plan.servers}
    progress = Progress(plan.repetitions * len(results), 4)
    for repetition in range(plan.repetitions):
        for name in results:
            progress.step(f"growth, {name}")
            table = f"hash:{bench.path('growth', f'{name}-{repetition}')}"
            make_table(bench, table, body(small))
            server = starts[name](bench, f"growth-{name}-{repetition}", [table])
            results[name].append(grow(bench, server, table, small, large))
            bench.stop_all()
    progress.end()
    findings.rows = [growth_row(name, mine) for name, mine in results.items()]
    findings.runs = [
        {"server": name, **result} for name, mine in results.items() for result in mine
    ]
    findings.failures = [
        f"growth, jailmapd: {result['errors']} errors; first: {result['first_error']}"
        for result in results.get("jailmapd", [])
        if result["errors"]
    ]
    findings.lines = growth_lines(small, large, findings.rows)
    return findings


def grow(bench, server, table, small, large):
    """One rebuild under load. load's connections stay open, as Postfix's do while they are used."""
    wait_ready(server)
    wait_found(server, table, KEY % 0)
    options = ["-s", server.socket(), "-k", KEY, "-n", str(small), "-t", "600", "-w", "0"]
    load = Background(bench, *options, "-c", "8", table)
    time.sleep(0.5)
    make_table(bench, table, body(large))
    time.sleep(1)
    result = load.finish()
    return {key: value for key, value in result.items() if key != "table"}


def growth_row(name, results):
    row = {"server": name, "repetitions": len(results)}
    for column in ("lookups_in_whole_run", "not_found_wrongly", "temporary", "lost", "errors"):
        row[column] = sum(result[column] for result in results)
    return row


def growth_lines(small, large, rows):
    lines = [
        "",
        f"hash grows from {small:,} to {large:,} entries, in place, under load of 8 connections; "
        "every key is there",
        f"{'server':<10}{'rebuilds':>9}{'lookups':>12}{'wrongly not found':>22}"
        f"{'temporary errors':>18}{'connections lost':>18}",
    ]
    for row in rows:
        lines.append(
            f"{row['server']:<10}{row['repetitions']:>9}{row['lookups_in_whole_run']:>12,}"
            f"{row['not_found_wrongly']:>22,}{row['temporary']:>18,}{row['lost']:>18,}"
        )
    return lines
