"""What is measured: file systems, each started on fresh ext4 file systems of its own."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile

from benchmark.machine import ADDRESS, answers, drop_caches, fresh_ext4, run, start, unmount, wait_for

BRICKS = 2
GLUSTERD = "/var/lib/glusterd"


class Target:
    """`start` gives the directory to work in. `remount` mounts the client anew, its caches empty, those of the servers kept.
    `bricks` are what that directory is on each of its bricks, if it has any. `sections` are those that it can do."""

    sections = ("names", "data", "trees")  # and "shared": it can be mounted twice
    tree_files = None  # files of a tree, at most; None: any number
    client, servers = (), ()  # names of its processes

    def __init__(self, name, place, sections=None):
        self.name, self.place = name, place
        self.sections = sections or self.sections
        self.mount = f"{place.work}/{name}"
        self.bricks = []

    def fresh_bricks(self):
        return [fresh_ext4(self.place.root_fd, f"{self.mount}-brick{n}") + "/brick" for n in range(1, BRICKS + 1)]

    def start(self):
        self.prepare()
        os.makedirs(self.mount, exist_ok=True)
        self.attach(self.mount)
        os.mkdir(self.directory)

    def remount(self):
        unmount(self.mount)
        self.attach(self.mount)

    def mounted_again(self):
        """For section "shared": the directory to work in through another mount, while the context lasts."""
        return Again(self, f"{self.mount}-again")

    @property
    def directory(self):
        return f"{self.mount}/bench"

    def versions(self):
        return {}


class Again:
    def __init__(self, target, mount):
        self.target, self.mount = target, mount

    def __enter__(self):
        os.makedirs(self.mount, exist_ok=True)
        self.target.attach(self.mount)
        return self.mount + self.target.directory.removeprefix(self.target.mount)

    def __exit__(self, *_):
        unmount(self.mount)


class Local(Target):
    """A directory on ext4."""

    sections = (*Target.sections, "shared")

    def prepare(self):
        fresh_ext4(self.place.root_fd, self.mount)

    def attach(self, mount):
        pass

    def remount(self):
        drop_caches()

    @contextlib.contextmanager
    def mounted_again(self):
        yield self.directory  # another process


class Given(Target):
    """A new directory in one of the user's."""

    def __init__(self, directory):
        self.name, self.bricks = directory, []
        self.temporary = tempfile.mkdtemp(prefix="bench-", dir=directory)

    @property
    def directory(self):
        return self.temporary

    def remount(self):
        drop_caches()


class Voldfs(Target):
    """A volume of two bricks on this machine."""

    sections = (*Target.sections, "shared")
    client, servers = ("voldfs",), ("voldbrick",)

    def __init__(self, name, place, tcp=False, **options):
        super().__init__(name, place, **options)
        self.tcp = tcp
        self.map_file = f"{self.mount}.json"

    def prepare(self):
        bricks = self.fresh_bricks()
        first = 11 if self.tcp else 1  # of the addresses: two volumes may be up at once
        specs = [f"127.0.0.{first + n}:{path}" for n, path in enumerate(bricks)]
        sockets = "" if self.tcp else self.place.work
        voldctl = f"{self.place.programs}/voldctl"
        run(voldctl, "map", "create", f"--out={self.map_file}", "--unix-dir", sockets, self.name, *specs)
        with open(self.map_file, encoding="utf-8") as file:
            volume = json.load(file)
        for brick in volume["bricks"]:
            os.mkdir(brick["path"])
            run(voldctl, "brick", "init", f"--path={brick['path']}", f"--map={self.map_file}")
            start(f"{self.place.programs}/voldbrick", f"--path={brick['path']}", f"--map={self.map_file}",
                  f"--listen={brick['host']}:{brick['port']}", f"--unix={brick['unix']}", log=f"{self.mount}-bricks.log")
            wait_for(f"voldbrick {brick['path']}", lambda b=brick: answers(b["host"], b["port"]))
        self.bricks = [f"{path}/bench" for path in bricks]

    def attach(self, mount):
        run(f"{self.place.programs}/mount.voldfs", self.map_file, mount, "-o", ",".join(filter(None, (f"log-file={mount}.log", self.place.voldfs_options))))


class Gluster(Target):
    """A Distribute volume of two bricks on this machine."""

    sections = (*Target.sections, "shared")
    client, servers = ("glusterfs",), ("glusterfsd",)

    def __init__(self, name, place, groups=(), **options):
        super().__init__(name, place, **options)
        self.groups = groups

    def prepare(self):
        start_glusterd(self.place.work)
        paths = self.fresh_bricks()
        run("gluster", "--mode=script", "volume", "create", self.name, *(f"{ADDRESS}:{path}" for path in paths), "force")
        for group in self.groups:
            run("gluster", "--mode=script", "volume", "set", self.name, "group", group)
        run("gluster", "--mode=script", "volume", "start", self.name)
        self.bricks = [f"{path}/bench" for path in paths]

    def attach(self, mount):
        run("mount", "-t", "glusterfs", f"{ADDRESS}:/{self.name}", mount)

    def versions(self):
        return {"glusterfs": run("glusterfs", "--version").splitlines()[0]}


def start_glusterd(work):
    """Once. Its directories are in memory and hide the machine's own, here alone; it goes with the namespace."""
    if os.path.exists(f"{work}/glusterd.log"):
        return
    groups = f"{GLUSTERD}/groups"  # of options, as installed
    shutil.copytree(groups, f"{work}/gluster-groups")
    for directory in (GLUSTERD, "/var/log/glusterfs", "/run/gluster"):
        os.makedirs(directory, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", directory)
    shutil.copytree(f"{work}/gluster-groups", groups)
    start("glusterd", "--no-daemon", log=f"{work}/glusterd.log")
    wait_for("glusterd", lambda: subprocess.run(["gluster", "--mode=script", "pool", "list"], check=False,
                                                capture_output=True).returncode == 0)


def have_gluster():
    return shutil.which("glusterd") is not None

