"""How long large tables take to load, and how much memory they take, with one worker and four.

Runs as root inside tests/bench/run: it reads /proc of processes that the bench started. One image
serves every worker, so that memory does not grow with them: PSS counts a page that several
processes map in equal shares, and its sum over the processes counts it once.
"""

import os
import time

from common import KEY, Background, BenchError, Findings, process_tree
from servers import (
    body,
    file_of,
    generation,
    make_table,
    start_jailmapd,
    wait_found,
    wait_generation,
)

CLIENTS = 6  # of a worker; the monitor starts the next when all that run have so many
SPARE = 2  # places: the client that asked before may not have been seen to leave
MEGABYTE = 1 << 20


def kilobytes(path, names):
    """Sums of "Name: N kB" lines of a file in /proc."""
    sums = dict.fromkeys(names, 0)
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0])
    return sums


def image_kilobytes(pid):
    """Size, Rss and Pss of the images that a process maps."""
    sums = {"Size": 0, "Rss": 0, "Pss": 0}
    inside = False
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if "-" in name and not name[0].isupper():  # the first line of a mapping: its addresses
                inside = "/memfd:" in line
            elif inside and name in sums:
                sums[name] += int(rest.split()[0])
    return sums


def program(pid):
    return os.path.basename(os.readlink(f"/proc/{pid}/exe")).partition(" ")[0]


def memory_files(pids):
    """Bytes in all the memory files that these processes have open or mapped, each once."""
    seen = {}
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    status = os.stat(path)
                    seen[status.st_ino] = status.st_blocks * 512
            except FileNotFoundError:
                pass
    return sum(seen.values())


def weigh(server):
    """What the processes of a jailmapd take now, in MB."""
    pids = process_tree(server.process.pid)
    roles = {pid: program(pid) for pid in pids}
    pss = {pid: kilobytes(f"/proc/{pid}/smaps_rollup", ["Pss"])["Pss"] for pid in pids}
    images = [image_kilobytes(pid) for pid in pids if roles[pid] == "jailmap-worker"]
    return {
        "workers_at_work": len(images),
        "processes": len(pids),
        "pss_mb": sum(pss.values()) / 1024,
        "monitor_pss_mb": sum(n for pid, n in pss.items() if roles[pid] == "jailmapd") / 1024,
        "image_mb": max((image["Size"] for image in images), default=0) / 1024,
        "image_mapped_share": min(
            (image["Rss"] / image["Size"] for image in images if image["Size"]), default=0
        ),
        "image_pss_of_a_worker_mb": max((image["Pss"] for image in images), default=0) / 1024,
        "image_pss_of_all_mb": sum(image["Pss"] for image in images) / 1024,
        "memory_files_mb": memory_files(pids) / MEGABYTE,
    }


def replace(path):
    """Renames a copy over the file: a new file with the same content."""
    with open(path, "rb") as old, open(f"{path}.new", "wb") as new:
        new.write(old.read())
    os.rename(f"{path}.new", path)


def measure(bench, table, entries, workers, name, seconds):
    """Starts a jailmapd with one table; returns (row, failures)."""
    listen = f"workers = {workers}\n    clients-per-worker = {CLIENTS}"
    began = time.monotonic()
    server = start_jailmapd(bench, name, [table], listen)
    wait_found(server, table, KEY % (entries - 1))
    first = time.monotonic() - began
    options = ["-s", server.socket(), "-k", KEY, "-n", str(entries), "-t", "600", "-w", "0"]
    load = Background(bench, *options, "-c", str(workers * CLIENTS - SPARE), table)
    time.sleep(seconds)
    row = {
        "table": table.partition(":")[0],
        "entries": entries,
        "workers": workers,
        "start_to_first_answer_ms": first * 1000,
        **weigh(server),
    }
    result = load.finish()
    row["lookups_before"] = result["lookups_in_whole_run"]
    row["reload_ms"] = reload_time(server, table) * 1000
    failures = []
    if result["errors"]:
        failures.append(f"{name}: {result['errors']} errors; first: {result['first_error']}")
    if row["workers_at_work"] != workers:
        failures.append(f"{name}: {row['workers_at_work']} workers at work, {workers} expected")
    return row, failures


def reload_time(server, table):
    """Seconds from a rename to the new image, as the status shows it; nothing else to do."""
    before = generation(server, table)
    replace(file_of(table))
    began = time.monotonic()
    if not wait_generation(server, table, before):
        raise BenchError(f"{table} was not loaded again\n{server.log_text()}")
    return time.monotonic() - began


HEADING = (
    f"{'table':<10}{'entries':>10}{'workers':>9}{'first answer':>14}{'reload':>9}{'image':>9}"
    f"{'mapped':>8}{'its PSS, all':>14}{'in one':>8}{'PSS in all':>12}{'monitor':>9}"
)


def line_of(row):
    return (
        f"{row['table']:<10}{row['entries']:>10,}{row['workers']:>9}"
        f"{row['start_to_first_answer_ms']:>11,.0f} ms{row['reload_ms']:>6,.0f} ms"
        f"{row['image_mb']:>6.1f} MB{100 * row['image_mapped_share']:>6.0f} %"
        f"{row['image_pss_of_all_mb']:>11.1f} MB{row['image_pss_of_a_worker_mb']:>8.1f}"
        f"{row['pss_mb']:>9.1f} MB{row['monitor_pss_mb']:>9.1f}"
    )


def large_tables(bench, plan, _options):
    """The part: hash and texthash, 100,000 and 1,000,000 entries, one worker and four."""
    findings = Findings()
    for entries in (100_000,) if plan.quick else (100_000, 1_000_000):
        text = body(entries)
        for kind in ("hash", "texthash"):
            table = f"{kind}:{bench.path('footprint', f'{kind}-{entries}')}"
            make_table(bench, table, text)
            for workers in (1, 4):
                name = f"footprint-{kind}-{entries}-{workers}"
                seconds = 0.5 if entries == 100_000 else 2
                row, failures = measure(bench, table, entries, workers, name, seconds)
                bench.stop_all()
                findings.rows.append(row)
                findings.failures += failures
    findings.runs = findings.rows
    findings.lines = [
        "",
        "Loading and memory, while all workers look up keys at random",
        HEADING,
        *[line_of(row) for row in findings.rows],
        "first answer: from the start of jailmapd; reload: from a rename to the new image; mapped: "
        "of the",
        "image, by the worker that has looked up least; PSS counts a shared page once in all.",
    ]
    return findings
