"""MooseFS: a metadata server in memory, and two chunk servers, each file on one of them."""

import os
import shutil
import subprocess

from benchmark.machine import ADDRESS, answers, run, start, wait_for
from benchmark.targets import Target

EMPTY_METADATA = b"MFSM NEW"  # what mfsmaster begins with
MASTER_PORTS = {"MATOML": 9419, "MATOCS": 9420, "MATOCL": 9421}
FIRST_CHUNK_PORT = 9422
ROOT_USER = {"WORKING_USER": "root", "WORKING_GROUP": "root", "SYSLOG_IDENT": "bench"}


def installed():
    return all(shutil.which(program) for program in ("mfsmaster", "mfschunkserver", "mfsmount"))


def write_settings(path, settings):
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(f"{key} = {value}\n" for key, value in settings.items()))


class Moosefs(Target):
    """Its chunk servers refuse loopback addresses, but not another address of that interface."""

    client, servers = ("mfsmount",), ("mfsmaster", "mfschunkserver")

    def prepare(self):
        self.start_master()
        for number, brick in enumerate(self.fresh_bricks()):
            self.start_chunk_server(brick, FIRST_CHUNK_PORT + number)

    def start_master(self):
        data = f"{self.mount}-master"
        os.mkdir(data)
        with open(f"{data}/metadata.mfs", "wb") as file:
            file.write(EMPTY_METADATA)
        with open(f"{data}/exports", "w", encoding="ascii") as file:
            file.write("* / rw,alldirs,admin,maproot=0\n")
        with open(f"{data}/topology", "w", encoding="ascii"):
            pass
        write_settings(f"{data}/settings", {**ROOT_USER, "DATA_PATH": data, "EXPORTS_FILENAME": f"{data}/exports", "TOPOLOGY_FILENAME": f"{data}/topology",
                                            **{f"{name}_LISTEN_HOST": ADDRESS for name in MASTER_PORTS}})
        start("mfsmaster", "-f", "-c", f"{data}/settings", "start", log=f"{self.mount}.log")
        wait_for("mfsmaster", lambda: answers(ADDRESS, MASTER_PORTS["MATOCL"]))

    def start_chunk_server(self, brick, port):
        os.mkdir(brick)
        data = f"{self.mount}-chunks-{port}"
        os.mkdir(data)
        with open(f"{data}/disks", "w", encoding="ascii") as file:
            file.write(f"{brick}\n")
        write_settings(f"{data}/settings", {**ROOT_USER, "DATA_PATH": data, "HDD_CONF_FILENAME": f"{data}/disks", "MASTER_HOST": ADDRESS,
                                            "BIND_HOST": ADDRESS, "CSSERV_LISTEN_HOST": ADDRESS, "CSSERV_LISTEN_PORT": port})
        start("mfschunkserver", "-f", "-c", f"{data}/settings", "start", log=f"{self.mount}.log")
        wait_for("mfschunkserver", lambda: answers(ADDRESS, port))

    def attach(self, mount):
        start("mfsmount", mount, "-f", "-H", ADDRESS, log=f"{mount}.log")
        wait_for(f"mounting {self.name}", lambda: os.path.ismount(mount))

    def start(self):
        super().start()
        wait_for("space in MooseFS", lambda: os.statvfs(self.mount).f_bavail > 0)
        # As on a Distribute volume: one copy of each file, and what is deleted is gone.
        run("mfssetgoal", "-r", "1", self.directory)
        run("mfssettrashtime", "-r", "0", self.directory)

    def versions(self):
        done = subprocess.run(["mfsmaster", "-v"], check=False, text=True, capture_output=True)
        return {"moosefs": (done.stdout or done.stderr).strip()}
