# SPDX-License-Identifier: Apache-2.0
"""What the tests of snapshots and block jobs share: how the images of a disk are held, by /proc and ACLs alone."""
import os
import stat

import harness

DISK = ("<disk type='{kind}' device='disk'><driver name='qemu' type='{format}'{more}/><source {key}='{path}'/>"
        "<target dev='{target}' bus='{bus}'/></disk>")


def disk(path, target, kind="file", image_format="qcow2", more="", bus="virtio"):
    return DISK.format(kind=kind, key="dev" if kind == "block" else "file", format=image_format, path=path, target=target,
                       more=more, bus=bus)


class Guest:
    """A running guest of the instance and what is known of its images."""

    def __init__(self, instance, name):
        self.instance, self.name = instance, name

    def status(self):
        return self.instance.json("status", self.name)[0]

    def images(self, target):
        """(path, access) of the images that the guest holds for that disk, by the trail."""
        alias = f"virtio-disk{ord(target[-1]) - ord('a')}"
        return {(tenure["id"], tenure["access"]) for tenure in self.status()["tenures"]
                if tenure["kind"] == "disk" and tenure["for"] == alias}

    def writable(self, path):
        """Whether QEMU has it open for writing, by /proc alone; None if it does not have it open."""
        pid, wanted, found = self.status()["pid"], os.stat(path), None
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                facts = os.stat(f"/proc/{pid}/fd/{descriptor}")
                with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
                    flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
            except OSError:
                continue
            same = (facts.st_dev, facts.st_ino) == (wanted.st_dev, wanted.st_ino)
            if stat.S_ISBLK(wanted.st_mode):
                same = stat.S_ISBLK(facts.st_mode) and facts.st_rdev == wanted.st_rdev
            if same:
                found = bool(found) or (flags & os.O_ACCMODE) != os.O_RDONLY
        return found

    def entry(self, path):
        """What the guest's uid has in the POSIX ACL of the file."""
        return harness.acl_users(path).get(self.status()["uid"])

    def rights(self, path):
        return self.writable(path), self.entry(path)

    def file(self, name):
        """A path in the instance's folder whose rights agree() looks at from now on."""
        path = os.path.join(self.instance.folder, name)
        self.instance.images.add(path)
        return path

    def records(self, *pieces):
        return [entry for entry in self.instance.entries() if " state=intent " not in entry
                and all(piece in entry for piece in pieces)]


GONE = (None, None)
READER = (False, "r")
WRITER = (True, "rw")
