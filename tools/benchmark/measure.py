"""Runs the driver on the targets, one after the other, round by round."""

import json
import statistics
import subprocess
import sys

from benchmark.machine import Failed, drop_caches, settle


ORDER = ("local", "voldfs", "glusterfs", "glusterfs-cache", "moosefs", "voldfs-tcp", "floor", "floor-passthrough", "floor-uring")
TREE_ROUNDS = 2  # at most: a round of trees takes GlusterFS two minutes
WITH_THREADS = ("voldfs", "glusterfs")  # what many threads are compared on


def run_driver(command, target, profile=None):
    """The rows it printed. Cold caches are made here, when it asks for them; `profile` is told when a row begins and ends."""
    rows = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        for line in driver.stdout:
            said = json.loads(line)
            if "ask" not in said:
                rows.append(said)
                if profile:
                    profile.end(said)
                continue
            if said["ask"] == "begin":
                profile.begin()
            else:
                target.remount()
            if said["ask"] == "cold":
                drop_caches()
            driver.stdin.write("done\n")
            driver.stdin.flush()
    if driver.returncode != 0:
        raise Failed(f"the driver ended with {driver.returncode} on {target.name}")
    return rows


def measure_section(section, target, threads, options):
    if section == "trees":
        return options.trees.at_most(target.tree_files).measure(target)
    if section == "shared":
        with target.mounted_again() as directory:
            return run_driver([*driver_command(section, target, threads, options), f"--beside={directory}"], target)
    return run_driver(driver_command(section, target, threads, options), target)


def driver_command(section, target, threads, options):
    return [f"{options.build}/bin/bench_driver", f"--dir={target.directory}", f"--bricks={','.join(target.bricks)}", f"--section={section}",
                       f"--threads={threads}", f"--seconds={options.seconds}", f"--files={options.files}", f"--file_mib={options.file_mib}"]


class Results:
    """What was measured. `rows`: {(threads, row): {unit, rounds: {target: [{rate, latency_us}, one a round]}}}."""

    def __init__(self):
        self.machine, self.rows = {}, {}

    def add(self, threads, target, row):
        entry = self.rows.setdefault((threads, row["row"]), {"unit": row["unit"], "rounds": {}})
        if "rate" in row:
            entry["rounds"].setdefault(target, []).append({key: row[key] for key in ("rate", "steps", "latency_us") if key in row})

    def median(self, threads, row, target):
        """None if it was not measured."""
        rounds = self.rows.get((threads, row), {"rounds": {}})["rounds"].get(target)
        return statistics.median(r["rate"] for r in rounds) if rounds else None

    def percentiles(self, row, target):
        """Of the latency with one thread, medians over the rounds; {} if it is not known."""
        rounds = [r["latency_us"] for r in self.rows.get((1, row), {"rounds": {}})["rounds"].get(target, []) if "latency_us" in r]
        return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]} if rounds else {}

    def targets(self):
        seen = {target for entry in self.rows.values() for target in entry["rounds"]}
        return [name for name in ORDER if name in seen] + sorted(seen - set(ORDER))

    def write(self, path):
        rows = [{"threads": threads, "row": row, **entry, "medians": {t: self.median(threads, row, t) for t in entry["rounds"]}}
                for (threads, row), entry in self.rows.items()]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": self.machine, "rows": rows}, file, indent=1)

    @staticmethod
    def read(path):
        results = Results()
        with open(path, encoding="utf-8") as file:
            written = json.load(file)
        results.machine = written["machine"]
        for row in written["rows"]:
            results.rows[(row["threads"], row["row"])] = {"unit": row["unit"], "rounds": row["rounds"]}
        return results


def measure(targets, options, results):
    """Targets take turns, there and back: A B C, C B A, ... One that fails is left out from then on, and named."""
    failed = {}
    for number in range(options.rounds):
        for section in options.sections:
            if section == "trees" and number >= TREE_ROUNDS:
                continue
            for threads in options.threads:
                for target in targets if number % 2 == 0 else reversed(targets):
                    if target.name in failed or not applies(section, threads, target):
                        continue
                    print(f"round {number + 1} of {options.rounds}: {section}, {threads} thread(s), {target.name}", file=sys.stderr)
                    if not settle(options.settle):
                        print("the machine is busy with something else: the figures will show it", file=sys.stderr)
                    try:
                        for row in measure_section(section, target, threads, options):
                            results.add(threads, target.name, row)
                    except Failed as error:
                        failed[target.name] = str(error)
                        print(f"without {target.name} from here on: {error}", file=sys.stderr)
    return failed


def applies(section, threads, target):
    return section in target.sections and (threads == 1 or (section in ("names", "data") and target.name in WITH_THREADS))
