"""What people do with trees of files: tar, git, cp, rm, ninja. Made once, in memory; each row is one command on the target."""

import os
import random
import shutil
import subprocess
import tarfile
import time

from benchmark.machine import run

FILES_IN_DIRECTORY = 14
SIZES = (700, 1500, 3000, 5000, 9000, 20000)  # of files, bytes, about as in source trees
AGE_S = 1.2  # as in the driver: what FUSE keeps by default has gone
UNITS = 120  # C files that ninja compiles
HEADERS = 60
INCLUDED = 20  # headers by each
WORDS = ("int", "return", "static", "const", "struct", "if", "for", "while", "value", "index", "size", "buffer", "result", "(void)", "{", "}", ";", "\n")


def text(rng, size):
    words = " ".join(rng.choices(WORDS, k=200))
    return (words * (size // len(words) + 1))[:size]


def write_file(path, content):
    with open(path, "w", encoding="ascii") as file:
        file.write(content)


def make_sources(directory, files):
    """A tree that looks like a program's sources; the same one every time."""
    rng = random.Random(4)
    for number in range(files):
        group = number // FILES_IN_DIRECTORY
        place = f"{directory}/part{group // 40}/module{group}"
        os.makedirs(place, exist_ok=True)
        write_file(f"{place}/file{number}.c", text(rng, rng.choice(SIZES)))


def make_program(directory):
    """A program in C of many small files, and its build.ninja."""
    rng = random.Random(5)
    os.makedirs(directory)
    for number in range(HEADERS):
        write_file(f"{directory}/header{number}.h", f"#pragma once\nstatic inline int h{number}(int x) {{ return x + {number}; }}\n" * 1)
    rules = ["rule cc", "  command = gcc -O0 -MMD -MF $out.d -c $in -o $out", "  depfile = $out.d", "rule link", "  command = gcc $in -o $out"]
    objects = []
    for number in range(UNITS):
        headers = rng.sample(range(HEADERS), INCLUDED)
        calls = " + ".join(f"h{n}(x)" for n in headers)
        write_file(f"{directory}/unit{number}.c", "".join(f'#include "header{n}.h"\n' for n in headers) + f"int unit{number}(int x) {{ return {calls}; }}\n")
        objects.append(f"out/unit{number}.o")
        rules.append(f"build {objects[-1]}: cc unit{number}.c")
    write_file(f"{directory}/main.c", "int main(void) { return 0; }\n")
    rules += ["build out/main.o: cc main.c", f"build program: link out/main.o {' '.join(objects)}", ""]
    write_file(f"{directory}/build.ninja", "\n".join(rules))


class Trees:
    """The commands, and what they work on, in a directory in memory."""

    def __init__(self, directory, files):
        self.directory, self.files = directory, files
        make_sources(f"{directory}/sources", files)
        self.tar = f"{directory}/sources.tar"
        with tarfile.open(self.tar, "w") as tar:
            tar.add(f"{directory}/sources", "sources")
        self.make_repository()
        make_program(f"{directory}/program")
        self.smaller = None

    def at_most(self, files):
        """These, or the same with fewer files, made when first asked for. None: any number will do."""
        if files is None or files >= self.files:
            return self
        if self.smaller is None:
            os.mkdir(f"{self.directory}/smaller")
            self.smaller = Trees(f"{self.directory}/smaller", files)
        return self.smaller

    def make_repository(self):
        sources = f"{self.directory}/sources"
        for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "sources")):
            run("git", *arguments, cwd=sources, env=self.environment())
        self.repository = f"{self.directory}/sources.git"
        run("git", "clone", "-q", "--bare", sources, self.repository, env=self.environment())
        run("git", "repack", "-q", "-a", "-d", cwd=self.repository, env=self.environment())
        shutil.rmtree(sources)

    def environment(self):
        """Nobody's own settings."""
        return {**os.environ, "HOME": self.directory, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@localhost",
                "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@localhost", "GIT_OPTIONAL_LOCKS": "1"}

    def measure(self, target):
        """The rows, in the driver's form."""
        here = f"{target.directory}/trees"
        os.mkdir(here)
        rows = []

        def timed(row, unit, amount, *command, cwd=here):
            begin = time.monotonic()
            run(*command, cwd=cwd, env=self.environment())
            seconds = time.monotonic() - begin
            rows.append({"row": row, "unit": unit, "steps": 1, "rate": amount / seconds})

        timed("tar x", "files/s", self.files, "tar", "xf", self.tar)
        timed("cp -a", "files/s", self.files, "cp", "-a", "sources", "copy")
        timed("rm -r", "files/s", self.files, "rm", "-r", "copy")
        timed("git clone", "files/s", self.files, "git", "clone", "-q", f"file://{self.repository}", "clone")
        time.sleep(AGE_S)
        # An index as old as its files makes git read them all again, every time.
        run("git", "update-index", "--refresh", "--force-write-index", cwd=f"{here}/clone", env=self.environment())
        run("git", "status", "--short", cwd=f"{here}/clone", env=self.environment())
        time.sleep(AGE_S)
        timed("git status, again", "files/s", self.files, "git", "status", "--short", cwd=f"{here}/clone")
        shutil.copytree(f"{self.directory}/program", f"{here}/program")
        timed("ninja build", "objects/s", UNITS + 1, "ninja", "--quiet", cwd=f"{here}/program")
        shutil.rmtree(here)
        return rows


def missing_programs():
    return [program for program in ("tar", "git", "ninja", "gcc", "cp", "rm") if subprocess.run(["sh", "-c", f"command -v {program}"], check=False,
                                                                                         capture_output=True).returncode != 0]
