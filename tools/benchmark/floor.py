"""libfuse's passthrough_hp over a directory on ext4: what FUSE costs when the file system behind it costs nothing."""

import os

from benchmark.machine import fresh_ext4, run, start, wait_for
from benchmark.targets import Target


def program(suite, directory):
    return f"{directory}/{suite}/passthrough_hp"


def build(suite, directory, source):
    """From the source package of a suite of Debian, once."""
    if not os.path.exists(program(suite, directory)):
        os.makedirs(directory, exist_ok=True)
        run(f"{source}/tools/build-passthrough-hp", suite, f"{directory}/{suite}")


class Floor(Target):
    """It keeps a descriptor for every file that the kernel knows, and a process may not have as many as big trees take."""

    tree_files = 3000  # the rates are of one file, and hardly depend on how many there are
    client = ("passthrough_hp",)

    def __init__(self, name, place, suite, arguments):
        super().__init__(name, place)
        self.program, self.arguments = program(suite, place.floor), arguments
        self.backing = f"{self.mount}-backing"

    def prepare(self):
        fresh_ext4(self.place.root_fd, self.backing)

    def attach(self, mount):
        start(self.program, "--foreground", *self.arguments, self.backing, mount, log=f"{mount}.log")
        wait_for(f"mounting {self.name}", lambda: os.path.ismount(mount))

    def versions(self):
        with open(os.path.join(os.path.dirname(self.program), "version"), encoding="ascii") as file:
            return {self.name: f"passthrough_hp of libfuse {file.read().strip()} {' '.join(self.arguments)}".strip()}
