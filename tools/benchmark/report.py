"""The results as text."""

import datetime
import os
import subprocess

from benchmark.goals import GOALS, TCP_GOALS, THREADS, missed_too, ratios, verdict

VERDICTS = {True: "met", False: "not met", None: ""}


def first_line(path, prefix=""):
    with open(path, encoding="utf-8", errors="replace") as file:
        return next((line[len(prefix):].strip(" \t:\n") for line in file if line.startswith(prefix)), "")


def describe_machine(source):
    done = subprocess.run(["git", "-C", source, "describe", "--always", "--dirty"], check=False, text=True, capture_output=True)
    try:
        uring = first_line("/sys/module/fuse/parameters/enable_uring") == "Y"
    except OSError:
        uring = False
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "voldfs": done.stdout.strip() or "unknown",
        "kernel": os.uname().release,
        "cpu": f"{os.cpu_count()} x {first_line('/proc/cpuinfo', 'model name')}",
        "memory_mib": int(first_line("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "distribution": first_line("/etc/os-release", "PRETTY_NAME=").strip('"'),
        "fuse_over_io_uring": uring,
    }


def shown(rate):
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:,.2f}" if rate < 10 else f"{rate:,.1f}"


def rows_of(results, threads):
    known = [row for row in GOALS if (threads, row) in results.rows]
    return known + [row for (t, row) in results.rows if t == threads and row not in GOALS]


def lines(table):
    """Columns as wide as they need; the first to the left."""
    widths = [max(len(line[n]) for line in table) for n in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in table]


def rates(results, threads):
    names = [name for name in results.targets() if any(results.median(threads, row, name) for row in rows_of(results, threads))]
    table = [[f"{threads} thread{'s' if threads > 1 else ''}", "unit", *names]]
    for row in rows_of(results, threads):
        table.append([row, results.rows[(threads, row)]["unit"], *(shown(results.median(threads, row, name)) for name in names)])
    return lines(table)


def goal_table(results, subject, goals):
    """What is had, and what is wanted of it in brackets."""
    found = {row: ratios(results, row, subject) for row in goals}
    others = list(dict.fromkeys(ratio.other for ratio in sum(found.values(), [])))
    if not others:
        return []
    table = [[f"{subject}, times: have (want)", *others, "goal"]]
    for row, row_ratios in found.items():
        cells = {r.other: f"{r.have:.2f}" + (f" ({r.wanted:g})" if r.wanted else "") for r in row_ratios}
        if cells:
            met = verdict(row_ratios)
            beyond = missed_too(results, row, subject) if met is False else None
            table.append([row, *(cells.get(other, "") for other in others), VERDICTS[met] + (f", {beyond} neither" if beyond else "")])
    return lines(table)


def threads_table(results):
    """No row is to fall below its one-thread ratio to GlusterFS."""
    counts = sorted({threads for threads, _ in results.rows if threads > 1})
    table = [["voldfs, times glusterfs", "1 thread", *(f"{n} threads" for n in counts), "goal"]]
    for row in rows_of(results, 1):
        pairs = [(results.median(n, row, "voldfs"), results.median(n, row, "glusterfs")) for n in (1, *counts)]
        if len(pairs) < 2 or not all(mine and theirs for mine, theirs in pairs):
            continue
        have = [mine / theirs for mine, theirs in pairs]
        table.append([row, *(f"{ratio:.2f}" for ratio in have), VERDICTS[min(have[1:]) >= THREADS * have[0]]])
    return lines(table) if len(table) > 1 else []


def latencies(results):
    names = [name for name in results.targets() if any(results.percentiles(row, name) for row in rows_of(results, 1))]
    table = [["1 thread, us: p50 / p99", *names]]
    for row in rows_of(results, 1):
        found = [results.percentiles(row, name) for name in names]
        if any(found) and not row.startswith("ls"):
            table.append([row, *(f"{p['p50']:,.1f} / {p['p99']:,.0f}" if p else "-" for p in found)])
    return lines(table) if len(table) > 1 else []


def text(results):
    parts = [[f"{key}: {value}" for key, value in results.machine.items() if key != "versions"] +
             [f"{key}: {value}" for key, value in results.machine.get("versions", {}).items()]]
    parts += [rates(results, threads) for threads in sorted({threads for threads, _ in results.rows})]
    parts += [goal_table(results, "voldfs", GOALS), goal_table(results, "voldfs-tcp", TCP_GOALS), threads_table(results), latencies(results)]
    parts.append(["Medians of the rounds. \"First time\": the client was mounted anew, the bricks' caches are warm (local: the machine's caches were",
                  "dropped). \"Again\": 1.2 s later, when what FUSE keeps by default has gone. \"Cold\": all caches were dropped. Ratios of medians;",
                  "in brackets the goal: where columns disagree, the floor's counts."])
    return "\n\n".join("\n".join(part) for part in parts if part)
