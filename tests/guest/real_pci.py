# SPDX-License-Identifier: Apache-2.0
"""PCI devices of the host by VFIO, behind an IOMMU that QEMU plays: a network card alone in its group, and two that share
one. Run by real-pci, inside of its machine."""
import glob
import os
import resource
import subprocess

import harness
from harness import agree, driver_of, field
from machine import LONE, PAIR, text_of, write

DEVICES = "/sys/bus/pci/devices"
GIB = 1 << 30


def hostdev(address, managed):
    domain, bus, slot = address.split(":")
    slot, function = slot.split(".")
    return (f"<hostdev mode='subsystem' type='pci' managed='{'yes' if managed else 'no'}'><source><address "
            f"domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>")


def override_of(address):
    text = text_of(f"{DEVICES}/{address}/driver_override")
    return "" if text == "(null)" else text


def bind(address, driver):
    """By hand, as an administrator does it; "" for no driver."""
    if driver_of(address):
        write(f"{DEVICES}/{address}/driver/unbind", address)
    write(f"{DEVICES}/{address}/driver_override", driver + "\n")
    if driver:
        write("/sys/bus/pci/drivers_probe", address)
    write(f"{DEVICES}/{address}/driver_override", "\n")
    assert driver_of(address) == driver, (address, driver_of(address))


def group_node(address):
    return "/dev/vfio/" + os.path.basename(os.readlink(f"{DEVICES}/{address}/iommu_group"))


def lockable(instance):
    return resource.prlimit(instance.json("status", "dev")[0]["pid"], resource.RLIMIT_MEMLOCK)


def ask_attach(instance, address, managed):
    return {"guest": "dev", "xml": hostdev(address, managed), "source": "test"}


def check_lone_is_back(instance):
    assert (driver_of(LONE), override_of(LONE)) == ("e1000e", "e1000e"), (driver_of(LONE), override_of(LONE))


def held_from_the_start(instance):
    """managed='yes' took it from the host's driver, and from an administrator's wish for one."""
    entry = instance.wait_record("resrc=driver", "reason=bind", LONE, "res=success")
    assert (field(entry, "old-driver"), field(entry, "override")) == ("e1000e", "e1000e"), entry
    entry = instance.wait_record("resrc=dev", "reason=start", "bus=pci", "res=success")
    assert field(entry, "product") == "8086:10d3" and f"/dev/vfio/{field(entry, 'group')}" == group_node(LONE), entry
    assert lockable(instance)[0] > GIB
    # Its port is switched on and no system answers: it stays, with all its tenures.
    instance.refused("", "Detach", guest="dev", device="hostdev0", timeout_s=1)
    assert driver_of(LONE) == "vfio-pci"
    print("a PCI device from the start, kept by a guest that does not answer")


def two_in_a_group(instance):
    """Half of a group is not given away; a function whose group the guest still has keeps its driver until all have left."""
    first, second = PAIR
    instance.refused("bind it to vfio-pci", "Attach", **ask_attach(instance, first, False))
    instance.refused("the whole group", "Attach", **ask_attach(instance, first, True))
    assert driver_of(first) == "e1000"
    bind(second, "")
    aliases = [instance.attach(hostdev(address, True)) for address in PAIR]
    assert instance.wait_record("resrc=cgroup", "reason=share", group_node(first), "res=success")
    instance.refused("still held: ", "Detach", guest="dev", device=aliases[0])
    assert driver_of(first) == "vfio-pci"
    instance.detach(aliases[1])
    instance.detach(aliases[0])
    assert [driver_of(address) for address in PAIR] == ["e1000", ""]
    bind(second, "e1000")
    print("two functions of one group came and went")


def came_and_went(instance):
    """Attached and detached while it runs; what QEMU may lock goes up and down with it."""
    before = lockable(instance)
    assert before[1] < GIB, before
    alias = instance.attach(hostdev(LONE, True))
    assert lockable(instance)[0] > GIB
    instance.detach(alias)
    check_lone_is_back(instance)
    assert lockable(instance) == before, (lockable(instance), before)
    # Somebody else has the group open: QEMU is refused, and all of it is rolled back.
    bind(LONE, "vfio-pci")
    with open(group_node(LONE), "rb+", buffering=0):
        instance.refused("vfio", "Attach", **ask_attach(instance, LONE, False))
    assert lockable(instance) == before, (lockable(instance), before)
    assert driver_of(LONE) == "vfio-pci"
    alias = instance.attach(hostdev(LONE, False))
    instance.detach(alias)
    assert driver_of(LONE) == "vfio-pci", "not managed: the driver is the administrator's"
    bind(LONE, "e1000e")
    write(f"{DEVICES}/{LONE}/driver_override", "e1000e\n")
    print("a PCI device came and went, managed and not")


def daemon_dies(instance):
    """In the midst of a change of the driver; the next daemon finds the device as nobody has it, and gives it back."""
    for path in (f"{DEVICES}/{LONE}/driver/unbind", "/sys/bus/pci/drivers_probe"):
        [pid] = instance.daemon_pids()
        with subprocess.Popen(["strace", "-qq", "-f", "-p", str(pid), "-P", path, "-e", "trace=openat",
                               "-e", "inject=openat:signal=KILL", "-o", "/dev/null"], stderr=subprocess.PIPE) as tracer:
            while any("TracerPid:\t0" in text_of(path) for path in glob.glob(f"/proc/{pid}/task/*/status")):
                harness.select_pause()
            try:
                instance.call("Attach", **ask_attach(instance, LONE, True))
                raise AssertionError(f"tenured outlived the open of {path}")
            except ConnectionError:
                pass
            harness.wait_exit(pid, 30)
            tracer.wait(30)
        agree(instance)
        check_lone_is_back(instance)
        last = [entry for entry in instance.entries() if "resrc=driver" in entry and "state=intent" not in entry][-1]
        assert "res=success" not in last or "reason=unbind" in last, f"a driver that did not come: {last}"
    instance.detach(instance.attach(hostdev(LONE, True)))
    check_lone_is_back(instance)
    print("tenured died in the midst of a change of the driver, and it was put right")


def taken_by_the_host(instance):
    """Somebody unbinds it from vfio-pci while the guest has it: the kernel asks QEMU to let go, and so it goes."""
    alias = instance.attach(hostdev(LONE, True))
    instance.hands_off = False
    with subprocess.Popen(["sh", "-c", f"echo {LONE} > /sys/bus/pci/drivers/vfio-pci/unbind"]) as unbinding:
        assert unbinding.wait(60) == 0
    for _ in range(500):
        if not any(LONE in str(tenure) for tenure in instance.json("status", "dev")[0]["tenures"]):
            break
        harness.select_pause()
    agree(instance)
    instance.assert_released(alias)
    check_lone_is_back(instance)
    print("a PCI device was taken out of the guest by an unbind, and released")
