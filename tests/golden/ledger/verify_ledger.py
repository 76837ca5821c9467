#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An independent verifier of the ledger, written from the specifications alone: C2SP signed-note,
tlog-checkpoint, tlog-tiles, tlog-proof; RFC 6962 and RFC 8032. Standard library only. It shares no
code with src/ledger, so that the two can convict each other.

  verify_ledger.py ledger DIR VKEYFILE    checkpoint, bundles, tiles, kept checkpoints, pending files
  verify_ledger.py proof FILE VKEYFILE    a tlog-proof whose extra data is the entry
  verify_ledger.py consistency OLD OLDROOT NEW NEWROOT HASH...    (hashes in hex)

Prints one line and exits 0, or says what is wrong and exits 1.
"""
import base64
import hashlib
import os
import re
import struct
import sys
import zlib

# --- RFC 8032, section 5.1: Ed25519, verification only -------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    s = (y1 - x1) * (y2 - x2) % P
    t = (y1 + x1) * (y2 + x2) % P
    u = 2 * t1 * t2 * D % P
    v = 2 * z1 * z2 % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(n, point):
    result = (0, 1, 1, 0)
    while n > 0:
        if n & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        n >>= 1
    return result


def point_equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if (x & 1) != sign else x


def decompress(data):
    y = int.from_bytes(data, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def ed25519_verify(public_key, message, signature):
    if len(public_key) != 32 or len(signature) != 64:
        return False
    a, r = decompress(public_key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    return point_equal(point_mul(s, BASE), point_add(r, point_mul(h, a)))


# --- signed-note and tlog-checkpoint --------------------------------------------------------------


class Bad(Exception):
    pass


def b64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Bad(f"base64: {error}") from error
    if base64.b64encode(raw).decode() != text:
        raise Bad("base64: not canonical")
    return raw


class Key:
    def __init__(self, vkey):
        self.name, key_hash, data = vkey.split("+", 2)
        raw = b64(data)
        if len(raw) != 33 or raw[0] != 1:
            raise Bad("not an Ed25519 verifier key")
        self.public_key = raw[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4]
        if self.id.hex() != key_hash:
            raise Bad("key hash does not match the key")

    def open_note(self, note):
        text, gap, signatures = note.decode().rpartition("\n\n")
        if not gap or not signatures.endswith("\n"):
            raise Bad("malformed note")
        text += "\n"
        found = False
        for line in signatures[:-1].split("\n"):
            match = re.fullmatch("\u2014 (\\S+) (\\S+)", line)
            if not match:
                raise Bad("malformed signature line")
            raw = b64(match[2])
            if match[1] != self.name or raw[:4] != self.id:
                continue
            if not ed25519_verify(self.public_key, text.encode(), raw[4:]):
                raise Bad("signature does not verify")
            found = True
        if not found:
            raise Bad("not signed by the key")
        return text

    def open_checkpoint(self, note):
        lines = self.open_note(note).split("\n")
        if len(lines) != 4 or lines[0] != self.name or not re.fullmatch("0|[1-9][0-9]*", lines[1]):
            raise Bad("malformed checkpoint")
        root = b64(lines[2])
        if len(root) != 32:
            raise Bad("malformed root")
        return int(lines[1]), root


# --- RFC 6962 --------------------------------------------------------------------------------------


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(entry):
    return sha256(b"\x00" + entry)


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree_hash(leaves):
    """MTH of section 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def root_from_path(leaf, index, size, path):
    """The recursion of section 2.1.1 run backwards."""
    if size == 1:
        if path:
            raise Bad("inclusion proof too long")
        return leaf
    if not path:
        raise Bad("inclusion proof too short")
    k = split(size)
    if index < k:
        return sha256(b"\x01" + root_from_path(leaf, index, k, path[:-1]) + path[-1])
    return sha256(b"\x01" + path[-1] + root_from_path(leaf, index - k, size - k, path[:-1]))


def roots_from_consistency(old, new, path, whole, old_root):
    """The old and the new root that SUBPROOF of section 2.1.2 leads to."""
    if old == new:
        if whole:
            if path:
                raise Bad("consistency proof too long")
            return old_root, old_root
        if len(path) != 1:
            raise Bad("consistency proof of wrong length")
        return path[0], path[0]
    if not path:
        raise Bad("consistency proof too short")
    k = split(new)
    if old <= k:
        a, b = roots_from_consistency(old, k, path[:-1], whole, old_root)
        return a, sha256(b"\x01" + b + path[-1])
    a, b = roots_from_consistency(old - k, new - k, path[:-1], False, old_root)
    return sha256(b"\x01" + path[-1] + a), sha256(b"\x01" + path[-1] + b)


# --- tlog-tiles ------------------------------------------------------------------------------------


def tile_path(level, index, width):
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    path = f"tile/{level}/" + "/".join(groups)
    return path if width == 256 else f"{path}.p/{width}"


def read_bytes(top, path):
    with open(os.path.join(top, path), "rb") as file:
        return file.read()


def split_bundle(data):
    entries = []
    while data:
        (size,) = struct.unpack(">H", data[:2])
        if len(data) < 2 + size:
            raise Bad("bundle ends inside an entry")
        entries.append(data[2 : 2 + size])
        data = data[2 + size :]
    return entries


def widths(count):
    """(index, width) of the tiles that hold `count` hashes."""
    full = [(i, 256) for i in range(count // 256)]
    return full + ([(count // 256, count % 256)] if count % 256 else [])


def check_level(top, level, hashes):
    for index, width in widths(len(hashes)):
        path = tile_path(level, index, width)
        if read_bytes(top, path) != b"".join(hashes[index * 256 : index * 256 + width]):
            raise Bad(f"{path} does not hold the hashes of the entries")


def read_pending(top, key):
    """Frames of both pending files: first index, entries, signature; in order."""
    frames = []
    for name in ("pending.0", "pending.1"):
        data = read_bytes(top, name)
        if not data.startswith(b"tenure-pending/1\n"):
            raise Bad(f"{name}: wrong first line")
        data = data[17:]
        while data:
            length, crc = struct.unpack(">II", data[:8])
            body = data[8 : 8 + length]
            if len(body) != length or zlib.crc32(data[:4] + body) != crc:
                raise Bad(f"{name}: torn frame")
            first, count = struct.unpack(">QI", body[:12])
            entries = split_bundle(body[12:-64])
            if len(entries) != count or count == 0:
                raise Bad(f"{name}: wrong number of entries")
            frames.append((first, entries, body[-64:]))
            data = data[8 + length :]
    return sorted(frames, key=lambda frame: frame[0])


def check_kept(top, key, leaves, published):
    """`checkpoints`: one note for each multiple of 256."""
    if published < 256:
        return 0
    data = read_bytes(top, "checkpoints")
    notes = re.findall(rb"[^\n]+\n[0-9]+\n[^\n]+\n\n\xe2\x80\x94 [^\n]+\n", data)
    if b"".join(notes) != data or len(notes) != published // 256:
        raise Bad("kept checkpoints are incomplete")
    # The trees of these sizes consist of whole subtrees of 256 leaves.
    subtrees = [tree_hash(leaves[i * 256 : i * 256 + 256]) for i in range(len(notes))]
    for number, note in enumerate(notes, 1):
        size, root = key.open_checkpoint(note)
        if size != number * 256 or tree_hash(subtrees[:number]) != root:
            raise Bad(f"kept checkpoint {number} is of another tree")
    return len(notes)


def verify_ledger(top, key):
    published, root = key.open_checkpoint(read_bytes(top, "checkpoint"))
    entries = []
    for index, width in widths(published):
        bundle = split_bundle(read_bytes(top, tile_path("entries", index, width)))
        if len(bundle) != width:
            raise Bad(f"bundle {index} has {len(bundle)} entries")
        entries += bundle
    leaves = [leaf_hash(entry) for entry in entries]
    if tree_hash(leaves) != root:
        raise Bad("root differs from the checkpoint")
    hashes = leaves
    level = 0
    while hashes:
        check_level(top, level, hashes)
        hashes = [tree_hash(hashes[i : i + 256]) for i in range(0, len(hashes) // 256 * 256, 256)]
        level += 1
    kept = check_kept(top, key, leaves, published)
    for first, frame, signature in read_pending(top, key):
        if first < published:
            if entries[first : first + len(frame)] != frame:
                raise Bad("a pending entry differs from the published one")
            continue
        if first != len(entries):
            raise Bad("pending entries are not contiguous")
        entries += frame
        leaves += [leaf_hash(entry) for entry in frame]
        text = f"tenure pending entries\n{key.name}\n{len(entries)}\n{base64.b64encode(tree_hash(leaves)).decode()}\n"
        if not ed25519_verify(key.public_key, text.encode(), signature):
            raise Bad("pending entries are not what was signed")
    return f"{len(entries)} entries, {published} published, {kept} kept checkpoints"


def verify_proof(path, key):
    with open(path, "rb") as file:
        head, gap, note = file.read().partition(b"\n\n")
    lines = head.decode().split("\n")
    if not gap or lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("extra "):
        raise Bad("not a tlog-proof with an entry")
    match = re.fullmatch("index (0|[1-9][0-9]*)", lines[2])
    if not match:
        raise Bad("malformed index")
    size, root = key.open_checkpoint(note)
    index = int(match[1])
    if index >= size:
        raise Bad("index is beyond the tree")
    entry = b64(lines[1][6:])
    if root_from_path(leaf_hash(entry), index, size, [b64(line) for line in lines[3:]]) != root:
        raise Bad("the entry is not in the tree")
    return f"entry {index} of {size}: {entry!r}"


def main(arguments):
    if len(arguments) >= 5 and arguments[0] == "consistency":
        old, new = int(arguments[1]), int(arguments[3])
        old_root, new_root = bytes.fromhex(arguments[2]), bytes.fromhex(arguments[4])
        path = [bytes.fromhex(text) for text in arguments[5:]]
        if roots_from_consistency(old, new, path, True, old_root) != (old_root, new_root):
            raise Bad("the two trees are not consistent")
        return f"{new} entries begin with {old}"
    if len(arguments) != 3 or arguments[0] not in ("ledger", "proof"):
        raise Bad(__doc__)
    with open(arguments[2], encoding="utf-8") as file:
        key = Key(file.read().strip())
    return (verify_ledger if arguments[0] == "ledger" else verify_proof)(arguments[1], key)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except (Bad, OSError, ValueError, struct.error, IndexError) as problem:
        print(f"verify_ledger: {problem}", file=sys.stderr)
        sys.exit(1)
