# SPDX-License-Identifier: Apache-2.0
"""USB devices that are real to the kernel: a stick on QEMU's xHCI, and one that the kernel's dummy_hcd plugs in and pulls
out at a word. Run by real-devices, inside of its machine."""
import contextlib
import glob
import os

import harness
import machine
from harness import agree, field
from machine import STICK, text_of, write

GADGET = "/sys/kernel/config/usb_gadget/stick"
MADE = ("1d6b", "0104")


def by_id(vendor, product):
    return (f"<hostdev mode='subsystem' type='usb'><source><vendor id='0x{vendor}'/><product id='0x{product}'/>"
            "</source></hostdev>")


def by_place(place):
    return f"<hostdev mode='subsystem' type='usb'><source><address bus='{place[0]}' device='{place[1]}'/></source></hostdev>"


def place_of(wanted):
    """(bus, device) of the device of that vendor and product; None if it is not there."""
    for folder in glob.glob("/sys/bus/usb/devices/*"):
        with contextlib.suppress(OSError):
            if tuple(text_of(f"{folder}/{name}") for name in ("idVendor", "idProduct")) == wanted:
                return int(text_of(f"{folder}/busnum")), int(text_of(f"{folder}/devnum"))
    return None


def node_of(place):
    return f"/dev/bus/usb/{place[0]:03}/{place[1]:03}"


def wait_place(wanted, there):
    for _ in range(1500):
        place = place_of(wanted)
        if there == (place is not None and os.path.exists(node_of(place))):
            return place
        harness.select_pause()
    raise AssertionError(f"{wanted} does not {'come' if there else 'go'}")


def make_gadget(instance):
    """A stick to be plugged in."""
    for folder in (GADGET, f"{GADGET}/strings/0x409", f"{GADGET}/configs/c.1", f"{GADGET}/functions/mass_storage.0"):
        os.mkdir(folder)
    write(f"{GADGET}/idVendor", "0x1d6b")
    write(f"{GADGET}/idProduct", "0x0104")
    write(f"{GADGET}/functions/mass_storage.0/lun.0/file", instance.image("gadget.img"))
    os.symlink(f"{GADGET}/functions/mass_storage.0", f"{GADGET}/configs/c.1/f")


def plug():
    write(f"{GADGET}/UDC", "dummy_udc.0")
    return wait_place(MADE, True)


def pull():
    write(f"{GADGET}/UDC", "\n")
    wait_place(MADE, False)


def at_start(instance):
    place = place_of(STICK)
    entry = instance.wait_record("resrc=dev", "reason=start", "bus=usb", "res=success")
    assert field(entry, "device") == f"{place[0]:03}.{place[1]:03}" and field(entry, "product") == ":".join(STICK), entry
    print(f"a USB stick from the start: {field(entry, 'device')}")


def plugged(instance):
    """Plugged in, attached, not given twice, detached; then pulled out while the guest has it."""
    make_gadget(instance)
    place = plug()
    alias = instance.attach(by_id(*MADE))
    # By other words it is the same device.
    instance.refused(f"is that of {alias} already", "Attach", guest="dev", xml=by_place(place), source="test")
    instance.detach(alias)
    assert harness.acl_users(node_of(place)) == {}
    alias = instance.attach(by_place(place))
    instance.hands_off = False  # it is gone behind our back, and the trail says so
    pull()
    entry = instance.wait_record("reason=out-of-band", "what=fd", "phase=begin")
    assert field(entry, "resource").startswith(f"{place[0]:03}.{place[1]:03} c 189:"), entry
    agree(instance)
    assert any("pulled out" in line["text"] for line in instance.json("status", "dev")[0]["drift"]), "status does not tell"
    instance.detach(alias)
    instance.refused("no such USB device", "Attach", guest="dev", xml=by_id(*MADE), source="test")
    print(f"a USB stick came, was pulled out of the guest ({alias}), and is gone")
