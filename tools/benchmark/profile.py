"""What one operation costs, row by row: requests of the kernel, and switches and CPU time of the client and of the servers.

A server that does nothing else is woken once a request, so that its voluntary switches are about the round trips."""

import collections
import glob
import os
import re
import subprocess
import tempfile

from benchmark.machine import settle
from benchmark.measure import driver_command, run_driver
from benchmark.report import lines

TRACING = "/sys/kernel/tracing"
PREFIX = "voldfs-bench-"  # of our instances
REQUEST = "events/fuse/fuse_request_send"
BUFFER_KIB = 16384  # of trace, a CPU: 100,000 requests


def spent(names):
    """(voluntary switches, CPU time in us) of all threads of the processes of these names."""
    switches, cpu = 0, 0.0
    for process in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{process}/comm", encoding="utf-8") as file:
                if file.read().strip() not in names:
                    continue
            for thread in glob.glob(f"{process}/task/*"):
                with open(f"{thread}/status", encoding="utf-8") as file:
                    switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.MULTILINE)[1])
                with open(f"{thread}/schedstat", encoding="utf-8") as file:
                    cpu += int(file.read().split()[0]) / 1000
        except OSError:
            pass  # it went meanwhile
    return switches, cpu


class FuseRequests:
    """Counts them by the kernel's trace, where it has one, in an instance of its own. That outlives a process that is
    killed, but can be removed only while nobody has it open: so who comes next removes it."""

    def __init__(self):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=False, capture_output=True)
        self.works = os.path.isdir(f"{TRACING}/{REQUEST}")
        if not self.works:
            return
        for left_behind in glob.glob(f"{TRACING}/instances/{PREFIX}*"):
            remove_instance(left_behind)
        self.instance = tempfile.mkdtemp(prefix=PREFIX, dir=f"{TRACING}/instances")
        self.in_use = os.open(f"{self.instance}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.put("buffer_size_kb", str(BUFFER_KIB))

    def put(self, file, value):
        with open(f"{self.instance}/{file}", "w", encoding="ascii") as opened:
            opened.write(value)

    def begin(self, mount):
        if self.works:
            self.put(f"{REQUEST}/filter", f"connection == {os.minor(os.lstat(mount).st_dev)}")
            self.put("trace", "")
            self.put(f"{REQUEST}/enable", "1")

    def end(self):
        """{operation: requests}"""
        if not self.works:
            return {}
        self.put(f"{REQUEST}/enable", "0")
        with open(f"{self.instance}/trace", encoding="ascii", errors="replace") as file:
            return collections.Counter(match[1] for line in file if (match := re.search(r"opcode \d+ \(FUSE_(\w+)\)", line)))

    def close(self):
        if self.works:
            os.close(self.in_use)
            remove_instance(self.instance)


def remove_instance(directory):
    try:
        os.rmdir(directory)
    except OSError:
        pass  # in use by somebody


class Profile:
    """Of one target; told by the driver when a row begins and ends. Rows that are parts of another are left out."""

    def __init__(self, target, requests):
        self.target, self.requests, self.running = target, requests, False
        self.table = []

    def spent(self):
        return {part: spent(names) for part, names in (("client", self.target.client), ("servers", self.target.servers))}

    def begin(self):
        self.running = True
        self.before = self.spent()
        self.requests.begin(self.target.mount)

    def end(self, row):
        if not self.running:
            return
        self.running = False
        requests = self.requests.end()
        steps = max(1, row["steps"])
        cells = [row["row"], f"{row['latency_us']['p50']:,.1f}" if "latency_us" in row else "-"]
        for part, after in self.spent().items():
            before = self.before[part]
            cells += [f"{(after[0] - before[0]) / steps:,.2f}", f"{(after[1] - before[1]) / steps:,.1f}"]
        cells.append("  ".join(f"{operation} {count / steps:.2f}" for operation, count in requests.most_common() if count / steps >= 0.01)
                     if requests else "")
        self.table.append(cells)


def text(targets, options):
    requests, parts = FuseRequests(), []
    try:
        for target in targets:
            profile = Profile(target, requests)
            for section in options.sections:
                if section in ("names", "data") and section in target.sections:
                    settle(options.settle)
                    run_driver([*driver_command(section, target, 1, options), "--profile"], target, profile)
            head = [target.name, "us (p50)", "client: switches", "CPU us", "servers: switches", "CPU us", "FUSE requests, an operation each"]
            parts.append("\n".join(lines([head, *profile.table])))
    finally:
        requests.close()
    return "\n\n".join(parts)
