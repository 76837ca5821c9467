# SPDX-License-Identifier: Apache-2.0
"""Input devices of the host and network cards with vhost. Run by real-devices, inside of its machine."""
import glob

import harness
import witness
from harness import field

BY_QEMU = "<input type='evdev'><source dev='{}' grab='all'/></input>"
BY_VIRTIO = "<input type='passthrough' bus='virtio'><source evdev='{}'/></input>"
VHOST = "/dev/vhost-net"


def keyboards():
    """The nodes of the machine's keyboards by their names."""
    found = {}
    for path in glob.glob("/sys/class/input/event*/device/name"):
        with open(path, encoding="ascii") as file:
            found[file.read().strip()] = "/dev/input/" + path.split("/")[4]
    return found


def nic(instance, number, kind="bridge"):
    source = (f"<source bridge='{instance.bridge}'/>" if kind == "bridge"
              else f"<source dev='{instance.lower}' mode='bridge'/>")
    return (f"<interface type='{kind}'><mac address='52:54:00:00:88:0{number}'/>{source}"
            "<model type='virtio'/><driver name='vhost'/></interface>")


def open_vhosts(instance):
    return witness.passed_on(instance.json("status", "dev")[0]["pid"])[1]


def cards_at_start(instance):
    assert open_vhosts(instance) == 1
    opened = [entry for entry in instance.entries() if "resrc=net reason=open" in entry and VHOST in entry
              and "state=intent" not in entry]
    assert len(opened) == 1 and all(field(entry, "rdev") == harness.rdev_of(VHOST) for entry in opened), opened


def cards(instance):
    """Each descriptor of vhost is opened and closed on the record."""
    for number, kind in ((2, "bridge"), (3, "direct")):
        alias = instance.attach(nic(instance, number, kind))
        assert open_vhosts(instance) == 2
        grants = [records for records in instance.grants_of(alias).values() if VHOST in records[0] and len(records) == 1]
        assert len(grants) == 1, grants
        instance.detach(alias)
        assert open_vhosts(instance) == 1
    print("network cards with vhost came and went")


def inputs(instance):
    keyboard = keyboards()["QEMU QEMU USB Keyboard"]
    for xml in (BY_QEMU, BY_VIRTIO):
        alias = instance.attach(xml.format(keyboard))
        entry = instance.wait_record("resrc=evdev", "reason=attach", f'device="{alias}"', "res=success")
        assert field(entry, "path") == keyboard and field(entry, "rdev") == harness.rdev_of(keyboard), entry
        instance.detach(alias)
        assert harness.acl_users(keyboard) == {}
    print("a keyboard of the host came and went")
