#!/usr/bin/env python3
"""tools/bench works: every row prints a number, and nothing is left behind, also when it is killed. Never how fast it was.
usage: check_bench.py SOURCE BUILD rows|given|profile|killed"""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

DEADLINE_S = 120
SOURCE, BUILD = sys.argv[1], sys.argv[2]
sys.path.insert(0, f"{SOURCE}/tools")
sys.dont_write_bytecode = True
from benchmark.goals import GOALS  # noqa: E402


def command(root, *more):
    return [f"{SOURCE}/tools/bench", "--quick", "--no-build", "--targets=local,voldfs", "--rounds=1", "--seconds=0.05", "--settle=0", f"--build={BUILD}", f"--root={root}", *more]


def loop_devices(root):
    """Those whose images lie there."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path, encoding="utf-8") as file:
                if file.read().startswith(os.path.realpath(root) + "/"):
                    found.append(path)
        except OSError:
            pass  # it went meanwhile
    return found


def processes_of(namespace):
    found = []
    for path in glob.glob("/proc/[0-9]*/ns/pid"):
        try:
            if os.readlink(path) == namespace:
                found.append(path)
        except OSError:
            pass
    return found


def expect_gone(what, find):
    deadline = time.monotonic() + DEADLINE_S
    while found := find():
        if time.monotonic() > deadline:
            sys.exit(f"{what} left behind: {found}")
        time.sleep(0.02)


def check_rows(root):
    subprocess.run(command(root, f"--json={root}/results.json"), check=True)
    with open(f"{root}/results.json", encoding="utf-8") as file:
        rows = {row["row"]: row for row in json.load(file)["rows"]}
    for row in GOALS:
        wanted = ["voldfs"] if "brick" in row else ["local", "voldfs"]
        for target in wanted:
            rate = rows.get(row, {"medians": {}})["medians"].get(target)
            if not rate or rate <= 0:
                sys.exit(f"{row}: no rate of {target}: {rows.get(row)}")
    texts = [element.text for element in xml.etree.ElementTree.parse(f"{root}/results.svg").iter() if element.tag.endswith("text")]
    missing = [row for row in GOALS if row not in texts and "local" in rows[row]["medians"]]
    if missing:
        sys.exit(f"the plot does not have {missing}")
    os.unlink(f"{root}/results.json")
    os.unlink(f"{root}/results.svg")


def check_given(root):
    done = subprocess.run(command(root, "--sections=names", root), check=True, stdout=subprocess.PIPE, text=True)
    if not re.search(r"^chmod +ops/s +[1-9]", done.stdout, re.MULTILINE):
        sys.exit(f"no rate of {root} in:\n{done.stdout}")


def check_profile(root):
    done = subprocess.run(command(root, "--profile", "--sections=names"), check=True, stdout=subprocess.PIPE, text=True)
    costs = {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line) for line in done.stdout.split("\n\n")[1].splitlines())}
    for row in ("create empty", "chmod", "rmdir"):
        if len(costs.get(row, [])) < 5 or not all(float(cost.replace(",", "")) > 0 for cost in costs[row][:5]):
            sys.exit(f"{row}: no costs of voldfs in:\n{done.stdout}")


def namespace_of_child(bench):
    """Of processes; None until it has one of its own."""
    with open(f"/proc/{bench.pid}/task/{bench.pid}/children", encoding="ascii") as file:
        children = file.read().split()
    namespaces = {os.readlink(f"/proc/{child}/ns/pid") for child in children} - {os.readlink("/proc/self/ns/pid")}
    return namespaces.pop() if namespaces else None


def check_killed(root):
    with subprocess.Popen(command(root, "--sections=names"), stderr=subprocess.PIPE, text=True) as bench:
        for line in bench.stderr:
            if "voldfs" in line and "round" in line:
                break
        else:
            sys.exit("it ended before it measured")
        namespace = namespace_of_child(bench)
        if not loop_devices(root) or len(processes_of(namespace)) < 4:
            sys.exit("its loop devices or processes were not found: this test sees nothing")
        bench.send_signal(signal.SIGKILL)
    expect_gone("processes", lambda: processes_of(namespace))


def main():
    with tempfile.TemporaryDirectory(prefix="check-bench-", dir="/var/tmp") as root:
        {"rows": check_rows, "given": check_given, "profile": check_profile, "killed": check_killed}[sys.argv[3]](root)
        expect_gone("loop devices", lambda: loop_devices(root))
        if os.listdir(root):
            sys.exit(f"files left behind: {os.listdir(root)}")


main()
