"""What voldfs is to reach: at least so many times the rate of GlusterFS with default options, of the floor, of local ext4."""

from dataclasses import dataclass

# Rows of the driver and of trees.py, in the order in which they are shown. None: no goal.
#   row: (times GlusterFS, times the floor, times local)
GOALS = {
    "create empty": (18, 0.5, None),
    "create, write 4 KiB, close": (12, 0.5, None),
    "open, read 4 KiB, close, first time": (8, 0.5, None),
    "open, read 4 KiB, close, again": (15, 0.9, None),
    "stat, first time": (5, 0.5, None),
    "stat, again": (100, 0.9, 0.7),
    "stat of a missing name, first time": (None, None, None),
    "stat of a missing name, again": (50, 0.9, 0.7),
    "ls -l of 10,000, first time": (5, 0.7, None),
    "ls -l of 10,000, again": (8, 0.9, None),
    "rename": (25, 0.4, None),
    "rename, same brick": (None, None, None),
    "rename, cross brick": (None, None, None),
    "unlink": (15, 0.4, None),
    "mkdir": (25, 0.4, None),
    "rmdir": (20, 0.4, None),
    "chmod": (8, 0.4, None),
    "sequential write, 1 MiB": (3, 0.95, 0.7),
    "sequential read, cold, 1 MiB": (2.5, 0.95, 0.9),
    "random read 4 KiB, warm": (50, 0.95, 0.9),
    "random read 4 KiB, O_DIRECT": (4, 0.95, 0.9),
    "random write 4 KiB, O_DIRECT": (2.5, 0.95, 0.9),
    "random write 4 KiB + fsync": (5, 0.95, 0.9),
    "random read 4 KiB, O_DIRECT, 16 in flight": (None, None, None),
    "random write 4 KiB, O_DIRECT, 16 in flight": (None, None, None),
    "create beside another mount's ls": (None, None, None),
    "create beside another mount's create": (None, None, None),
    "open, read beside another mount's chmod": (None, None, None),
    "chmod beside another mount's open, read": (None, None, None),
    "append beside another mount's append": (None, None, None),
    "lock, add, unlock beside another mount's": (None, None, None),
    "tar x": (8, None, None),
    "git clone": (5, None, None),
    "git status, again": (20, None, None),
    "rm -r": (10, None, None),
    "cp -a": (6, None, None),
    "ninja build": (3, None, None),
}
# Over TCP there is no passthrough.
TCP_GOALS = {
    "sequential write, 1 MiB": (2, 0.7, None),
    "sequential read, cold, 1 MiB": (2, 0.7, None),
    "random read 4 KiB, O_DIRECT": (2, 0.6, None),
    "random write 4 KiB, O_DIRECT": (2, 0.6, None),
    "random read 4 KiB, O_DIRECT, 16 in flight": (3, 0.6, None),
    "random write 4 KiB, O_DIRECT, 16 in flight": (3, 0.6, None),
}
MOOSEFS = 1.5  # times MooseFS, every row
# With many threads no row is to fall below its one-thread ratio to GlusterFS; a tenth is what two runs differ by.
THREADS = 0.9


@dataclass
class Ratio:
    """To another target. `wanted` None: for knowledge alone."""
    other: str
    have: float
    wanted: float | None

    @property
    def met(self):
        return self.wanted is None or self.have >= self.wanted


def floor_of(row, subject, machine):
    """The column that is the floor of a row: passthrough for data of a local brick, otherwise the transport that voldfs has."""
    if subject == "voldfs" and ("random" in row or "sequential" in row):
        return "floor-passthrough"
    return "floor-uring" if machine.get("fuse_over_io_uring") else "floor"


def ratios(results, row, subject="voldfs"):
    """Of one row with one thread, to what was measured beside it: [Ratio]."""
    gluster, floor, local = (GOALS if subject == "voldfs" else TCP_GOALS).get(row, (None, None, None))
    others = [("glusterfs", gluster), (floor_of(row, subject, results.machine), floor), ("local", local)]
    if subject == "voldfs":
        others.append(("moosefs", MOOSEFS))
    mine = results.median(1, row, subject)
    return [Ratio(other, mine / theirs, wanted) for other, wanted in others
            if mine and (theirs := results.median(1, row, other))]


def verdict(found):
    """Where they disagree the floor's binds, that of MooseFS aside; None without any goal."""
    goals = [ratio for ratio in found if ratio.wanted is not None]
    binding = [ratio for ratio in goals if ratio.other.startswith("floor")] or [ratio for ratio in goals if ratio.other != "moosefs"]
    binding += [ratio for ratio in goals if ratio.other == "moosefs"]
    return all(ratio.met for ratio in binding) if binding else None


def missed_too(results, row, subject="voldfs"):
    """What does less than voldfs does, and cannot reach the row's multiple of GlusterFS either, so that nothing can here; None: nothing such was measured."""
    wanted, of_floor, _ = (GOALS if subject == "voldfs" else TCP_GOALS).get(row, (None, None, None))
    gluster = results.median(1, row, "glusterfs")
    if not wanted or of_floor or not gluster:  # a goal in multiples of the floor counts instead
        return None
    for other in (floor_of(row, subject, results.machine), "local"):
        rate = results.median(1, row, other)
        if rate and rate < wanted * gluster:
            return other
    return None
