"""What the benchmark does to the machine: namespaces, file systems on loop devices, processes. All of it goes when its
first process does, by whatever signal."""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import time

WAIT_S = 60  # for a daemon to answer
IMAGE_GIB = 8  # of a file system, sparse
IDLE = 0.15  # of its time, is what daemons without work take
LOOP_TRIES = 50  # for a free loop device: others take them too
ADDRESS = "192.0.2.1"  # on the loopback interface of the network namespace, for what refuses 127.0.0.0/8


class Failed(Exception):
    """Said to the user as it is."""


def run(*command, **options):
    options = {"stdin": subprocess.DEVNULL, "text": True, "capture_output": True, **options}
    done = subprocess.run(command, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} failed: {(done.stderr or done.stdout or '').strip()[-2000:]}")
    return done.stdout


def start(*command, log):
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def wait_for(what, condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {WAIT_S} s")
        time.sleep(0.02)


def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def attach_loop(image_fd):
    """(descriptor, path) of a loop device over the file, which goes with its last user. Direct I/O below: what O_DIRECT
    and cold reads cost is the disk's time and not that of another page cache."""
    loop_ctl_get_free, loop_configure = 0x4C82, 0x4C0A
    autoclear, direct_io = 4, 16
    info = struct.pack("<QQQQQIIII64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, autoclear | direct_io, b"voldfs bench", b"", b"", 0, 0)
    config = struct.pack("<II", image_fd, 4096) + info + bytes(64)
    reason = None
    with open("/dev/loop-control", "rb") as control:
        for _ in range(LOOP_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, loop_ctl_get_free)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, loop_configure, config)
                return device, path
            except OSError as error:  # somebody was faster
                reason = error
                os.close(device)
    raise Failed(f"no loop device could be had: {reason}")


def fresh_ext4(root_fd, directory):
    """Mounts a new file system, of an image without a name in the directory `root_fd`."""
    os.mkdir(directory)
    image = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=root_fd)
    try:
        os.truncate(image, IMAGE_GIB << 30)
        device, path = attach_loop(image)
        try:
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
            run("mount", "-t", "ext4", path, directory)
        finally:
            os.close(device)
    finally:
        os.close(image)
    return directory


def busy_part():
    """Of all CPUs' time, in the next fifth of a second."""
    def times():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, iowait, *rest = (int(n) for n in file.readline().split()[1:])
        return user + nice + system + idle + iowait + sum(rest), idle + iowait

    total, idle = times()
    time.sleep(0.2)
    total_now, idle_now = times()
    return 1 - (idle_now - idle) / max(1, total_now - total)


def settle(seconds):
    """Waits, at most so long, until what was written before is on the disk and the machine has nothing to do; whether it came to that."""
    os.sync()
    deadline = time.monotonic() + seconds
    while busy_part() > IDLE:
        if time.monotonic() > deadline:
            return False
    return True


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def unmount(directory):
    """Tries until nobody is inside: a closed file's last reply may still be on its way."""
    wait_for(f"unmounting {directory}", lambda: subprocess.run(["umount", directory], check=False, capture_output=True).returncode == 0)


def fork_into_namespaces():
    """As os.fork(). The child is the first process of its own namespaces (mounts, processes, network): mounts, loop devices and
    daemons go with it, and it goes with this process, by whatever signal."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_ns, new_pid, new_net, pr_set_pdeathsig = 0x00020000, 0x20000000, 0x40000000, 1

    def unshare(flags):
        if libc.unshare(flags) != 0:
            raise Failed(f"namespaces cannot be made here: {os.strerror(ctypes.get_errno())}")

    parent = os.getpid()
    unshare(new_pid)  # of processes that are forked from now on
    child = os.fork()
    if child == 0:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if not os.path.exists(f"/proc/{parent}"):  # it went before it was asked to take us along
            os._exit(1)
        unshare(new_ns | new_net)
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "proc", "proc", "/proc")
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    return child


def hidden_directory(*needed):
    """A directory in memory, seen in this mount namespace alone: mounted over one that exists and has nothing that is `needed`."""
    for directory in ("/media", "/mnt", "/srv"):
        if os.path.isdir(directory) and not any(os.path.realpath(path).startswith(directory + "/") for path in needed):
            run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory)
            return directory
    raise Failed("/media, /mnt and /srv are all missing or needed")
