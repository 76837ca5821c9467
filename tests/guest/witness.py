# SPDX-License-Identifier: Apache-2.0
"""Independent witnesses of what the kernel has granted to guests (bpftool, devices.list, xattrs, /proc, /sys) and of
what the trail says (the ledger's files, read by docs/ledger-format.md), which use none of Tenure's code; and agree(),
the one judge of whether both tell the same."""
import collections
import contextlib
import functools
import glob
import json
import os
import re
import selectors
import stat
import struct
import subprocess


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


# A rule of a device ACL is a tuple (type, major, minor, access), minor None for any, access of "rwm".

def rules_of_devices_list(cgroup):
    """cgroup v1: what the kernel itself prints."""
    rules = set()
    with open(os.path.join(cgroup, "devices.list"), encoding="ascii") as file:
        for line in file:
            kind, number, access = line.split()
            major, minor = number.split(":")
            rules.add((kind, major if major == "*" else int(major), None if minor == "*" else int(minor), access))
    return rules


def device_program(cgroup):
    """The id of the one device program that is attached to the cgroup."""
    attached = json.loads(run("bpftool", "-j", "cgroup", "show", cgroup).stdout)
    programs = [entry["id"] for entry in attached if entry["attach_type"] in ("device", "cgroup_device")]
    assert len(programs) == 1, f"{len(programs)} device programs on {cgroup}: {attached}"
    return programs[0]


@functools.cache
def maps_of_program(program):
    """Its maps' ids by name or type; they are its own for as long as it lives, and ids are not used again."""
    maps = {}
    for number in json.loads(run("bpftool", "-j", "prog", "show", "id", str(program)).stdout)["map_ids"]:
        shown = json.loads(run("bpftool", "-j", "map", "show", "id", str(number)).stdout)
        maps[shown["name"] if shown["type"] == "hash" else shown["type"]] = number
    return maps


def rules_of_bpf(cgroup):
    """cgroup v2: the rules of the guest's slot in the map of the program attached to its cgroup, by bpftool alone."""
    maps = maps_of_program(device_program(cgroup))
    words = lambda raw: [int.from_bytes(bytes(int(byte, 16) for byte in raw[i:i + 4]), "little")
                         for i in range(0, len(raw), 4)]
    inode = os.stat(cgroup).st_ino
    slots = [words(entry["value"])[0] for entry in dump(maps["cgroup_storage"])
             if words(entry["key"])[0] + (words(entry["key"])[1] << 32) == inode]
    assert len(slots) == 1 and slots[0] != 0, f"slot of {cgroup}: {slots}"
    rules = set()
    for entry in dump(maps["rules"]):
        slot, kind, major, minor = words(entry["key"])
        if slot == slots[0]:
            bits = words(entry["value"])[0]  # BPF_DEVCG_ACC_MKNOD 1, READ 2, WRITE 4
            access = "".join(letter for letter, bit in (("r", 2), ("w", 4), ("m", 1)) if bits & bit)
            rules.add(("b" if kind == 1 else "c", major, None if minor == 0xFFFFFFFF else minor, access))
    return rules


def dump(map_id):
    return json.loads(run("bpftool", "-j", "map", "dump", "id", str(map_id)).stdout)


def mounts_of_cgroup():
    """(v2, v1 devices), each None if it is not mounted."""
    found = {}
    with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            left, right = (half.split() for half in line.split(" - "))
            if right[0] == "cgroup2":
                found["v2"] = left[4]
            if right[0] == "cgroup" and "devices" in right[2].split(","):
                found["v1"] = left[4]
    return found.get("v2"), found.get("v1")


def cgroups_of(uuid):
    """The guest's cgroups that exist, in both hierarchies."""
    paths = [f"{mount}/tenure-{uuid}" for mount in mounts_of_cgroup() if mount]
    return [path for path in paths if os.path.isdir(path)]


def rules_of_cgroup(cgroup):
    is_v2 = os.path.exists(os.path.join(cgroup, "cgroup.controllers"))
    return rules_of_bpf(cgroup) if is_v2 else rules_of_devices_list(cgroup)


def acl_users(path):
    """uid -> access of the named users in a file's POSIX ACL (acl(5); linux/posix_acl_xattr.h)."""
    try:
        raw = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return {}
    entries = struct.iter_unpack("<HHI", raw[4:])
    return {number: "".join(letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if access & bit)
            for tag, access, number in entries if tag == 2}  # ACL_USER


def select_pause(seconds=0.02):
    """Between two looks at something that has no event to wait for."""
    with selectors.DefaultSelector() as selector:
        selector.select(seconds)


def united(grants):
    """(key, access) pairs, those of one key joined: what several tenures of one thing amount to."""
    letters = {}
    for key, access in grants:
        letters.setdefault(key, set()).update(access)
    return {(key, "".join(letter for letter in "rwmx" if letter in found)) for key, found in letters.items()}


def rules_of_history(tenures):
    """The device rules that the trail says are open."""
    rules = []
    for tenure in tenures:
        if tenure["kind"] != "cgroup" or tenure["until"] is not None or not tenure.get("rdev"):
            continue
        major, minor = tenure["rdev"].split(":")
        device = (tenure["devtype"], int(major, 16), None if minor == "*" else int(minor, 16))
        rules.append((device, tenure["access"]))
    return {(*device, access) for device, access in united(rules)}


def open_files_of(pid, paths):
    """Which of the files the process has open."""
    wanted = {(os.stat(path).st_dev, os.stat(path).st_ino): path for path in paths if os.path.exists(path)}
    found = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            facts = os.stat(f"/proc/{pid}/fd/{descriptor}")
            found.add(wanted.get((facts.st_dev, facts.st_ino)))
    return found - {None}


def open_device_nodes(pid):
    """(type, major, minor) of every device node that the process has open, with the paths."""
    found = {}
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            facts = os.stat(f"/proc/{pid}/fd/{descriptor}")
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            kind = "b" if stat.S_ISBLK(facts.st_mode) else "c" if stat.S_ISCHR(facts.st_mode) else None
            if kind:
                found[(kind, os.major(facts.st_rdev), os.minor(facts.st_rdev))] = target
    return found


def blocking_taps(pid):
    """Descriptors of the process on a tap or macvtap whose reads wait: QEMU's main loop stands still in one."""
    found = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(("/dev/net/tun", "/dev/tap")):
                with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
                    flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
                if not flags & os.O_NONBLOCK:
                    found.append(descriptor)
    return found


def rdev_of(path):
    """The number of a device node as records write it."""
    return hex_of(os.stat(path).st_rdev)


def hex_of(number):
    return f"{os.major(number):02X}:{os.minor(number):02X}"


def passed_on(pid):
    """(numbers of the host's own USB, input and VFIO devices that QEMU has open, descriptors of vhost-net). Its own /dev
    is another, so the links of /proc/PID/fd name nothing here."""
    numbers = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            facts = os.stat(f"/proc/{pid}/fd/{descriptor}")
            if stat.S_ISCHR(facts.st_mode):
                numbers.append(facts.st_rdev)
    groups = {os.major(os.stat(path).st_rdev) for path in glob.glob("/dev/vfio/[0-9]*")}
    majors = {189, 13} | groups  # USB and input: Documentation/admin-guide/devices.txt
    vhost = os.stat("/dev/vhost-net").st_rdev if os.path.exists("/dev/vhost-net") else None
    here = {hex_of(number) for number in numbers if os.major(number) in majors}
    return {rdev for rdev in here if on_host(rdev)}, numbers.count(vhost)


def on_host(rdev):
    """Whether a character device of that number is there; one that was pulled out is not."""
    return os.path.exists("/sys/dev/char/" + ":".join(str(int(part, 16)) for part in rdev.split(":")))


def driver_of(address):
    """Of a PCI device; "" for none."""
    link = f"/sys/bus/pci/devices/{address}/driver"
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def field(entry, key):
    """The value of key= in an entry of the ledger, decoded as audit encodes untrusted text; None if it is not there."""
    found = re.search(rf"[ ']{re.escape(key)}=(\"[^\"]*\"|[^ ']*)", entry)
    if not found:
        return None
    value = found.group(1)
    if value.startswith('"'):
        return value[1:-1]
    is_hex = re.fullmatch("(?:[0-9A-F]{2})+", value) and key in (
        "vm", "path", "why", "cause", "new-disk", "old-disk", "resource", "expected", "found")
    return bytes.fromhex(value).decode() if is_hex else value


def agree(instance):
    """kernel = trail = status, for every guest of the instance: cgroups, device rules, ACLs of images, interfaces,
    QEMU processes and run folders are exactly what the open tenures and the daemon say; each intent has its end; the
    ledger verifies. Starts tenured if it does not run. Raises with everything that is wrong; returns the guests."""
    listed = instance.tenure("list", "-o", "json", check=False)
    assert listed.returncode in (0, 1), f"list: exit {listed.returncode}: {listed.stderr}"
    running = {guest["uuid"]: guest for guest in map(json.loads, listed.stdout.splitlines())
               if guest["state"] != "shut off"}
    history = instance.tenure("history", "-o", "json", check=False)
    # 5: audit lost records, as some tests make it do; the ledger has them all.
    assert history.returncode in (0, 1, 5), f"history: exit {history.returncode}: {history.stderr}"
    tenures = [tenure for tenure in map(json.loads, history.stdout.splitlines()) if tenure["until"] is None]
    wrong = []

    def same(what, kernel, trail):
        if kernel != trail:
            wrong.append(f"{what}: found {kernel}, the trail has {trail}")

    for uuid in sorted(instance.uuids):
        mine = [tenure for tenure in tenures if tenure["uuid"] == uuid]
        agree_guest(instance, uuid, running.get(uuid), mine, same)
    agree_host(instance, running, tenures, same)
    instance.tenure("undefine", "nobody-of-this-name", check=False)  # its refusal publishes what waits
    entries = instance.entries()
    wrong += [f"drift that nobody made: {entry}" for entry in entries
              if instance.hands_off and "reason=out-of-band" in entry and not made_by_others(instance, entry)]
    ended = {int(field(entry, "grant")) for entry in entries if field(entry, "grant")}
    for index, entry in enumerate(entries):
        if " state=intent " in entry and index not in ended:
            wrong.append(f"intent {index} has no end: {entry}")
    at_bridges = collections.Counter(field(entry, "bridge") for entry in granted(entries, tenures, "net"))
    for bridge in getattr(instance, "bridges", []):
        same(f"ports of {bridge}", len(os.listdir(f"/sys/class/net/{bridge}/brif")), at_bridges[bridge])
    wrong += [f"a grant of what QEMU never had: {entry}" for entry in never_had(entries)]
    verified = instance.tenure("verify", check=False)
    if verified.returncode != 0:
        wrong.append(f"verify: exit {verified.returncode}: {verified.stdout}{verified.stderr}")
    assert not wrong, "\n  ".join(["kernel, trail and status do not agree:"] + wrong)
    return running


def granted(entries, tenures, kind):
    """The entries by which the open tenures of a kind began."""
    grants = {str(tenure["grant"]) for tenure in tenures if tenure["kind"] == kind}
    return [entry for entry in entries
            if field(entry, "grant") in grants and f" resrc={kind} " in entry and "res=success" in entry]


def by(entry):
    """The tenured that made the entry."""
    return entry.partition(" pid=")[2].partition(" ")[0]


DEVICES = ("net", "rng", "dev", "shmem", "ivshmem-socket", "evdev", "fs")


def never_had(entries):
    """Grants by which a tenured that came later said that a change had succeeded, only to find itself that QEMU has no
    such device. (A disk has its image open before its device is there.)"""
    said = {}
    for entry in entries:
        grant, why = field(entry, "grant"), field(entry, "why") or ""
        # QEMU may have had the descriptors of an interface that it made no device of.
        if not grant or field(entry, "resrc") not in DEVICES or field(entry, "reason") == "open":
            continue
        if why.startswith("recovered: tenured died") and "res=success" in entry:
            said[grant] = entry
        elif why == "recovered: it is not in QEMU" and by(said.get(grant, "")) == by(entry):
            yield said[grant]


def made_by_others(instance, entry):
    """Whether it tells of an ACL entry of a uid that no guest of this instance has, on a folder that tests share."""
    users = re.findall(r"user:(\d+):", f"{field(entry, 'expected')} {field(entry, 'found')}")
    return " what=acl " in entry and bool(users) and not {int(user) for user in users} & set(instance.uids().values())


def agree_guest(instance, uuid, guest, tenures, same):
    """One guest's part of agree()."""
    cgroups = cgroups_of(uuid)
    same(f"{uuid} cgroups", set(cgroups), {t["id"] for t in tenures if t["kind"] == "cgroup" and t["class"] == "group"})
    same(f"{uuid} QEMU", set(instance.qemu_pids(uuid)), {guest["pid"]} if guest else set())
    same(f"{uuid} run folder", os.path.exists(f"{instance.root}/run/tenure/runs/{uuid}"), guest is not None)
    uid = None
    if guest:
        status = instance.json("status", uuid)[0]
        uid = status["uid"]
        same(f"{uuid} grants", {t["grant"] for t in status["tenures"]}, {t["grant"] for t in tenures})
        kernel = set().union(*(rules_of_cgroup(path) for path in cgroups))
        same(f"{uuid} rules", kernel, rules_of_history(tenures))
        same(f"{uuid} rules in status", {rule_of_text(rule) for rule in status["acl"]}, kernel)
        held = {t["id"] for t in tenures if t["kind"] in ("disk", "chardev")} & instance.images
        agree_helpers(instance, uuid, guest["pid"], status, tenures, cgroups, same)
        same(f"{uuid} images in QEMU", open_files_of(guest["pid"], instance.images), held)
        same(f"{uuid} taps that QEMU waits at", blocking_taps(guest["pid"]), [])
        devices, vhosts = passed_on(guest["pid"])
        same(f"{uuid} devices of the host in QEMU", devices,
             {t["rdev"] for t in tenures if t["kind"] in ("dev", "evdev") and t.get("rdev") and on_host(t["rdev"])})
        same(f"{uuid} descriptors of vhost", vhosts,
             [t["id"] for t in tenures if t["kind"] == "net-open"].count("/dev/vhost-net"))
    drivers = {(t["id"], "vfio-pci") for t in tenures if t["kind"] == "driver"}
    same(f"{uuid} drivers", {(address, driver_of(address)) for address, _ in drivers}, drivers)
    granted = united((t["id"], t["access"]) for t in tenures if t["kind"] == "acl")
    known = instance.uids().get(uuid)
    looked_at = instance.images | {path for path, _ in granted}
    entries = {(path, acl_users(path)[known]) for path in looked_at if known in acl_users(path)}
    same(f"{uuid} ACL entries of {known or uid}", entries, granted)


def children_of(pids):
    """Of these processes, the processes that they started, by /proc."""
    found = set()
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            if int(file.read().rpartition(")")[2].split()[1]) in pids:
                found.add(int(number))
    return found


def is_vhost_worker(pid, qemu):
    """The kernel's own thread behind vhost-net joins the cgroup of whom it serves (drivers/vhost/vhost.c)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
        return name == f"vhost-{qemu}" and rest.split()[1] == "2"  # a child of kthreadd
    return False


def root_of(pid):
    """What the process has for its root: (device, inode), and whether it is mounted read-only."""
    facts = os.stat(f"/proc/{pid}/root")
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
        roots = [line.split()[5].split(",") for line in file if line.split()[4] == "/"]
    return (facts.st_dev, facts.st_ino), "ro" in roots[-1]


def agree_helpers(instance, uuid, qemu, status, tenures, cgroups, same):
    """The processes of the guest's cgroups are its QEMU, the servers that the trail names and what these started; each
    server has the folder of its tenure for its root, may write as the tenure says, and has no device node open."""
    shared = {str(t["grant"]): t for t in tenures if t["kind"] == "fs"}
    served = {}
    for entry in instance.entries() if shared else []:
        if field(entry, "helper-pid") and field(entry, "grant") in shared and "res=success" in entry:
            served[int(field(entry, "helper-pid"))] = shared[field(entry, "grant")]
    same(f"{uuid} helpers in status", {helper["pid"] for helper in status["helpers"]}, set(served))
    ours = set(served) | children_of(set(served)) if served else set()
    for cgroup in cgroups:
        with open(f"{cgroup}/cgroup.procs", encoding="ascii") as file:
            members = {pid for pid in map(int, file) if not is_vhost_worker(pid, qemu)}
        same(f"{uuid} processes of {cgroup}", members, {qemu} | ours)
    for pid, tenure in served.items():
        folder = os.stat(tenure["id"])
        serving = [root_of(one) for one in {pid} | children_of({pid})]
        same(f"{uuid} root of {pid}", (((folder.st_dev, folder.st_ino), tenure["access"] == "r") in serving), True)
        nodes = set().union(*(open_device_nodes(one) for one in {pid} | children_of({pid})))
        same(f"{uuid} device nodes of {pid}", nodes - {("c", 1, 3)}, set())


def agree_host(instance, running, tenures, same):
    """What the guests share: bridge ports, macvtaps, the rules of all slots."""
    opened = [tenure["id"] for tenure in tenures if tenure["kind"] == "net-open"]
    if getattr(instance, "bridges", None):
        same("taps", sum(len(os.listdir(f"/sys/class/net/{bridge}/brif")) for bridge in instance.bridges),
             opened.count("/dev/net/tun"))
        uppers = glob.glob(f"/sys/class/net/{instance.lower}/upper_*")
        same("macvtaps", len(uppers), sum(1 for path in opened if path.startswith("/dev/tap")))
    instance.own_pins()
    for folder in instance.pins:
        rules = json.loads(run("bpftool", "-j", "map", "dump", "pinned", f"{folder}/rules").stdout)
        slots = {int.from_bytes(bytes(int(byte, 16) for byte in entry["key"][:4]), "little") for entry in rules}
        on_v2 = sum(1 for uuid in running if "v2" == instance.json("status", uuid)[0]["fence"])
        same("slots with rules", len(slots), on_v2)


def rule_of_text(text):
    """"c 136:* rw" of status."""
    kind, number, access = text.split()
    major, minor = number.split(":")
    return (kind, int(major), None if minor == "*" else int(minor), access)
