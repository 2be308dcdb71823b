"""tools/bench --mgmt: the management plane. Three voldmgmt on this machine with many volumes in their state; beside glusterd,
one daemon, where it has the operation."""

import http.client
import json
import os
import socket
import statistics
import time
import uuid

from . import machine, targets

NODES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
VOLUMES, BRICKS, REPEATS = 1000, 10, 20
GLUSTER_VOLUMES = 20  # its commands get slower with each
SNAPSHOT_ENTRIES_MAX = 3000


class Daemon:
    def __init__(self, programs, work, address):
        self.programs, self.address = programs, address
        self.directory = f"{work}/{address}"
        os.makedirs(f"{self.directory}/etc", mode=0o700)
        with open(f"{self.directory}/etc/secret", "w", encoding="ascii") as file:
            file.write("5" * 64 + "\n")
        os.chmod(f"{self.directory}/etc/secret", 0o600)
        self.process = None

    def start(self):
        begun = time.monotonic()
        self.process = machine.start(
            f"{self.programs}/voldmgmt", f"--listen={self.address}:24107", f"--state_dir={self.directory}/var", f"--conf_dir={self.directory}/etc",
            f"--run_dir={self.directory}/run", f"--log_dir={self.directory}/log", "--brick_manager=fork", "--map_port=0", log=f"{self.directory}.log")
        machine.wait_for("voldmgmt", self.has_a_leader)
        return time.monotonic() - begun

    def kill(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(f"{self.directory}/run/voldmgmt.socket")
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        text = connection.getresponse().read()
        connection.close()
        return text.decode() if path == "/metrics" else json.loads(text)

    def metric(self, name):
        return next(float(line.split()[1]) for line in self.request("GET", "/metrics").splitlines() if line.startswith(name + " "))

    def has_a_leader(self):
        try:
            return self.request("GET", "/v1/peers")["known"]["quorum"]
        except (OSError, http.client.HTTPException):
            return False

    def command(self, op, **fields):
        answer = self.request("POST", "/v1/commands", {"id": str(uuid.uuid4()), "op": op, **fields})
        if not answer["ok"]:
            raise machine.Failed(f"{op}: {answer['error']}")
        return answer

    def ctl(self, *arguments):
        return machine.run(f"{self.programs}/voldctl", "--mode=script", f"--run-dir={self.directory}/run", f"--state-dir={self.directory}/var", *arguments)

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def timed(action):
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def median(action, times=REPEATS):
    return statistics.median(timed(lambda n=n: action(n)) for n in range(times))


class Rows:
    def __init__(self):
        self.rows = []

    def add(self, what, value, unit, goal=None, peer=None):
        self.rows.append({"what": what, "value": round(value, 1), "unit": unit, "goal": goal, "glusterd": None if peer is None else round(peer, 1)})

    def text(self):
        lines = [f"{'':44} {'voldfs':>10} {'goal':>10} {'':6} {'glusterd':>10} {'ratio':>6}"]
        for row in self.rows:
            met = "" if row["goal"] is None else ("met" if row["value"] < row["goal"] else "MISSED")
            goal = "" if row["goal"] is None else f"< {row['goal']}"
            peer = "" if row["glusterd"] is None else f"{row['glusterd']:.1f}"
            ratio = "" if row["glusterd"] is None else f"{row['glusterd'] / max(row['value'], 0.1):.1f}x"
            lines.append(f"{row['what']:44} {row['value']:>7} {row['unit']:3}{goal:>9} {met:6} {peer:>10} {ratio:>6}")
        return "\n".join(lines)


def make_volumes(daemons, work):
    took = []
    for v in range(VOLUMES):
        bricks = []
        for b in range(BRICKS):
            node = daemons[(v + b) % len(daemons)]
            bricks.append(f"{node.address}:{node.directory}/bricks/v{v}-{b}")
        took.append(timed(lambda v=v, bricks=bricks: daemons[0].command("volume-create", volume=f"v{v}", bricks=bricks, force=True)))
    del work
    return took


def gluster_side(work):
    """Medians in milliseconds of create, set, info and status, one daemon, few volumes: the best that it can show."""
    targets.start_glusterd(work)
    address = machine.ADDRESS

    def gluster(*arguments):
        machine.run("gluster", "--mode=script", *arguments)

    os.makedirs(f"{work}/gluster-bricks")
    create = median(lambda n: gluster("volume", "create", f"g{n}", f"{address}:{work}/gluster-bricks/{n}", "force"), GLUSTER_VOLUMES)
    gluster("volume", "start", "g0")
    return {
        "create": create,
        "set": median(lambda n: gluster("volume", "set", "g0", "performance.cache-size", f"{32 + n}MB"), 10),
        "info": median(lambda n: gluster("volume", "info", "g0")),
        "status": median(lambda n: gluster("volume", "status", "g0"), 10),
    }


def measure(options, work, root_fd):
    disk = f"{work}/mgmt"
    machine.fresh_ext4(root_fd, disk)  # what the log flushes is to reach a disk
    daemons = [Daemon(options.build + "/bin", disk, address) for address in NODES]
    for daemon in daemons:
        os.makedirs(f"{daemon.directory}/bricks")
        daemon.start()
    for daemon in daemons[1:]:
        daemons[0].ctl("peer", "probe", daemon.address)
    rows = Rows()
    peer = gluster_side(work) if targets.have_gluster() else {}

    few = median(lambda n: daemons[0].ctl("volume", "create", f"few{n}", f"{NODES[0]}:{daemons[0].directory}/bricks/few{n}", "force"))
    rows.add("voldctl volume create, 3 nodes", few, "ms", 100, peer.get("create"))
    daemons[0].ctl("volume", "start", "few0")
    rows.add("voldctl volume set", median(lambda n: daemons[0].ctl("volume", "set", "few0", "user.n", str(n))), "ms", 100, peer.get("set"))
    rows.add("voldctl volume info NAME", median(lambda n: daemons[0].ctl("volume", "info", "few0")), "ms", None, peer.get("info"))
    rows.add("voldctl volume status NAME", median(lambda n: daemons[0].ctl("volume", "status", "few0")), "ms", None, peer.get("status"))

    took = make_volumes(daemons, work)
    many = f"{VOLUMES} volumes of {BRICKS} bricks: "
    rows.add(many + "create, the last 100", statistics.median(took[-100:]), "ms")
    settle(daemons)
    rows.add(many + "list", median(lambda n: daemons[0].ctl("volume", "list")), "ms", 100)
    rows.add(many + "set", median(lambda n: daemons[0].ctl("volume", "set", "v1", "user.n", str(n))), "ms", 100)
    settle(daemons)
    rows.add(many + "snapshot", max(snapshot_ms(daemons)), "ms", 2000)
    settle(daemons)
    daemons[2].kill()
    rows.add(many + "restart", daemons[2].start() * 1000, "ms", 2000)
    settle(daemons)
    rows.add(many + "memory of a daemon", max(daemon.rss_mib() for daemon in daemons), "MiB", 50)
    return rows


def snapshot_ms(daemons):
    """Of each daemon, the snapshot that it takes next: after every so many entries of the log, whoever leads."""
    before = [daemon.metric("voldfs_mgmt_snapshots") for daemon in daemons]
    for n in range(SNAPSHOT_ENTRIES_MAX):
        if n % 100 == 0 and all(daemon.metric("voldfs_mgmt_snapshots") > taken for daemon, taken in zip(daemons, before)):
            break
        daemons[0].command("volume-set", volume="v1", options={"user.n": str(n)})
    else:
        raise machine.Failed("no snapshot was taken")
    return [daemon.metric("voldfs_mgmt_snapshot_seconds") * 1000 for daemon in daemons]


def settle(daemons):
    """Until all daemons are idle: their files are written behind the changes."""
    def spent():
        total = 0
        for daemon in daemons:
            with open(f"/proc/{daemon.process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total

    before = spent()
    deadline = time.monotonic() + machine.WAIT_S
    while time.monotonic() < deadline:
        time.sleep(1)
        now = spent()
        if now - before < 10:  # of 100 a second and processor
            return
        before = now


def report(rows, options):
    print(rows.text())
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump({"mgmt": rows.rows}, file, indent=1)
