#!/usr/bin/env python3
"""Placement computed a second time, from dht/README.md and not from the C++ code: where the two agree, the
page describes what the code does. Prints the table that layout_golden.inc holds.

  placement_reference.py > layout_golden.inc

Needs libxxhash.so.0. The table is frozen: run it to add rows, never to change one."""

import ctypes
import math
import random
import string
import uuid
from functools import cmp_to_key

xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data: bytes) -> int:
    return xxhash.XXH3_64bits(data, len(data))


SUFFIXES = {b"tmp", b"new", b"part", b"partial", b"lock", b"bak", b"old"}
DIGITS, LOWER, UPPER = (set(x.encode()) for x in (string.digits, string.ascii_lowercase, string.ascii_uppercase))


def effective_name(name: bytes) -> bytes:
    while True:
        shorter = strip_once(name)
        if shorter == name:
            return name
        name = shorter


def strip_once(name: bytes) -> bytes:
    fields = name.split(b".")
    if name[:1] == b"." and len(name) > 1:
        tail = set(fields[-1])
        stem = b".".join(fields[1:-1])
        if stem and len(fields[-1]) == 6 and tail <= DIGITS | LOWER | UPPER and not tail <= LOWER and not tail <= DIGITS:
            return stem
        return name[1:]
    if len(name) > 1 and name[-1:] == b"~":
        return name[:-1]
    if len(fields) < 2 or not fields[-1]:
        return name
    longer, shorter = b".".join(fields[:-1]), b".".join(fields[:-2])
    if shorter and fields[-1] == b"partial" and len(fields[-2]) == 8 and set(fields[-2]) <= LOWER | DIGITS:
        return shorter
    if fields[-1] in SUFFIXES:
        return longer
    if shorter and fields[-2] == b"tmp" and set(fields[-1]) <= DIGITS | LOWER | UPPER:
        return shorter
    return name


def log2_digits(i: int, bits: int = 48, precision: int = 400) -> int:
    """floor(log2(1 + i / 1024) * 2^48), with enough digits that rounding plays no part."""
    x, one, digits = (1024 + i) << (precision - 10), 1 << precision, 0
    for _ in range(bits):
        x = x * x >> precision
        digits <<= 1
        if x >= 2 * one:
            digits, x = digits | 1, x >> 1
    return digits


TABLE = [log2_digits(i) for i in range(1024)] + [1 << 48]
for i, entry in enumerate(TABLE):
    assert abs(entry / 2**48 - math.log2(1 + i / 1024)) < 1e-12


def cost(h: int) -> int:
    if h == 2**64 - 1:
        return 1
    x = h + 1
    exponent = x.bit_length() - 1
    behind_point = (x << (64 - exponent)) & (2**64 - 1)
    step, rest = behind_point >> 54, (behind_point << 10) & (2**64 - 1)
    log = (exponent << 48) + TABLE[step] + ((TABLE[step + 1] - TABLE[step]) * rest >> 64)
    return (64 << 48) - log


def rank(parent: bytes, name: bytes, bricks):
    key = xxh3(parent + effective_name(name))
    bids = [(cost(xxh3(key.to_bytes(8, "little") + brick)), weight, brick, ordinal)
            for ordinal, (brick, weight) in enumerate(bricks, 1) if weight]

    def compare(a, b):
        left, right = a[0] * b[1], b[0] * a[1]
        return (left > right) - (left < right) or (a[2] > b[2]) - (a[2] < b[2])

    return key, [bid[3] for bid in sorted(bids, key=cmp_to_key(compare))]


def c_string(data: bytes) -> str:
    return '"' + "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else "\\%03o" % c for c in data) + '"'


def brick_id(n: int) -> bytes:
    """The n-th brick of every set: the first 16 bytes of a chain of XXH3, so that the test can make it too."""
    return xxh3(b"brick %d a" % n).to_bytes(8, "little") + xxh3(b"brick %d b" % n).to_bytes(8, "little")


# Weights of each set; its bricks have the ordinals 1, 2, ... and the ids brick_id(1), brick_id(2), ...
SETS = [[100], [100, 100], [100, 100, 100], [100] * 8, [1, 2, 3, 4], [100, 0, 50], [1, 4294967295], [4294967295] * 4,
        [100] * 100, [10, 20, 40, 80, 160, 320, 640, 1280]]

ROOT = bytes(15) + b"\1"
PARENTS = [ROOT, uuid.UUID("6f6c6456-2d73-4661-b7be-000102030405").bytes, bytes(range(16)), b"\xff" * 16]
NAMES = [b"a", b"README.md", b".README.md.a8Xk2Q", b"README.md~", b".bashrc", b"bashrc", b"index.lock", b"x.tmp.4711",
         "Größe".encode(), "名前".encode(), b"\xff\xfe\x80", b" ", b"back\\slash", b'quo"te', b"new\nline",
         b"n" * 255, b"." + b"m" * 247 + b".aB3dE9", b"k" * 128, b"k" * 129, b"k" * 224, b"k" * 225, b"IMG_0001.JPG"]


def main():
    out = random.Random(1)
    print("// Printed by placement_reference.py. Frozen.")
    print("constexpr KeyVector kKeys[] = {")
    for p, parent in enumerate(PARENTS):
        for name in NAMES:
            print(f"    {{{p}, {c_string(name)}, 0x{rank(parent, name, [])[0]:016x}}},")
    print("};\nconstexpr CostVector kCosts[] = {")
    hashes = [0, 1, 2, 3, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1] + [out.getrandbits(64) for _ in range(40)]
    hashes += [2**64 - 1 - out.getrandbits(b) for b in range(2, 62, 3)]
    for h in hashes:
        print(f"    {{0x{h:016x}, 0x{cost(h):016x}}},")
    print("};\nconstexpr RankVector kRanks[] = {")
    for s, weights in enumerate(SETS):
        bricks = [(brick_id(i), weight) for i, weight in enumerate(weights, 1)]
        for n in range(24):
            parent = n % len(PARENTS)
            name = NAMES[n] if n < len(NAMES) else b"file %d" % n
            best = (rank(PARENTS[parent], name, bricks)[1] + [0, 0, 0])[:3]
            print(f"    {{{s}, {parent}, {c_string(name)}, {{{best[0]}, {best[1]}, {best[2]}}}}},")
    print("};\nconstexpr PlaceVector kPlaces[] = {")
    for s, weights in enumerate(SETS):
        bricks = [(brick_id(i), weight) for i, weight in enumerate(weights, 1)]
        digest = 0
        for n in range(2000):
            digest = (digest * 1031 + rank(PARENTS[n % len(PARENTS)], b"name-%d" % n, bricks)[1][0]) % 2**64
        print(f"    {{{s}, 0x{digest:016x}}},")
    print("};")


if __name__ == "__main__":
    main()
