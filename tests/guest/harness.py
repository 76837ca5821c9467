# SPDX-License-Identifier: Apache-2.0
"""What the guest tests in Python share: an instance of Tenure with its own root, the demo's guest on it,
its console, and independent witnesses of what the kernel has granted (bpftool, devices.list, /proc) that
use none of Tenure's code. Everything made here is named after the test and its pid and goes with it."""
import contextlib
import glob
import json
import os
import re
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("TENURE_BIN", os.path.join(ROOT, "build", "dev", "bin"))
IMAGE = os.path.join(ROOT, "build", "guest")
TEST = os.path.basename(sys.argv[0])


def skip(why):
    print(f"skip: {why}")
    sys.exit(77)


def need_guest_image():
    if not shutil.which("qemu-system-x86_64"):
        skip("no qemu-system-x86_64 (tools/install-packages test)")
    if subprocess.run([os.path.join(ROOT, "tools", "make-guest")], check=False).returncode != 0:
        skip("the guest image cannot be made here")


def need_programs():
    for program in ("tenure", "tenured"):
        if not os.access(os.path.join(BIN, program), os.X_OK):
            skip(f"{program} is not built in {BIN}")


def need_root():
    if os.geteuid() != 0:
        skip("needs root")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        skip("needs CAP_SYS_ADMIN: an unprivileged container")


def fences():
    """The device controllers that are mounted here."""
    with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as file:
        mounts = [line.split(" - ")[1].split() for line in file]
    found = ["v2"] if any(mount[0] == "cgroup2" for mount in mounts) else []
    if any(mount[0] == "cgroup" and "devices" in mount[2].split(",") for mount in mounts):
        found.append("v1")
    return found


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Instance:
    """A root directory with its own tenured. Use it in a with statement: what runs in it ends with it."""

    def __init__(self, config=""):
        self.folder = tempfile.mkdtemp(prefix=f"tenure-{TEST}-{os.getpid()}-")
        os.chmod(self.folder, 0o711)  # the guest's uid must reach its images in here
        self.root = os.path.join(self.folder, "root")
        os.makedirs(os.path.join(self.root, "etc", "tenure"))
        with open(os.path.join(self.root, "etc", "tenure", "tenure.conf"), "w", encoding="utf-8") as file:
            file.write(config)
        self.cleanup = contextlib.ExitStack()
        self.pins = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            for guest in self.json("list"):
                self.tenure("kill", guest["name"], check=False)
        for pid in self.daemon_pids():
            descriptor = os.pidfd_open(pid)
            os.kill(pid, signal.SIGTERM)
            with selectors.DefaultSelector() as selector:  # a pidfd is readable once the process has ended
                selector.register(descriptor, selectors.EVENT_READ)
                selector.select(10)
            os.close(descriptor)
        self.cleanup.close()
        for folder in self.pins:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def remember_pins(self, program):
        """The folder where the device program of that id is pinned goes with this instance."""
        for pin in glob.glob("/sys/fs/bpf/tenure-*/program"):
            shown = run("bpftool", "-j", "prog", "show", "pinned", pin, check=False)
            if shown.returncode == 0 and json.loads(shown.stdout)["id"] == program:
                self.pins.add(os.path.dirname(pin))

    def tenure(self, *words, check=True):
        return run(f"{BIN}/tenure", "--root", self.root, *words, check=check)

    def json(self, *words):
        """All objects that the command prints, one a line."""
        return [json.loads(line) for line in self.tenure(*words, "-o", "json").stdout.splitlines() if line]

    def daemon_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
                if os.path.basename(words[0]) == "tenured" and self.root in words:
                    found.append(int(pid))
        return found

    def make_demo(self):
        """examples/demo.xml with disks, loop device and bridge of this test's own; returns the XML's path."""
        base, top, raw = (os.path.join(self.folder, name) for name in ("base.qcow2", "top.qcow2", "data.img"))
        os.mkdir(os.path.join(self.folder, "guest"))
        for name in ("vmlinuz", "initramfs"):
            shutil.copy(os.path.join(IMAGE, name), os.path.join(self.folder, "guest"))
        run("qemu-img", "create", "-q", "-f", "qcow2", base, "64M")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
        with open(raw, "wb") as file:
            file.truncate(32 << 20)
        loop = run("losetup", "--find", "--show", raw).stdout.strip()
        self.cleanup.callback(run, "losetup", "--detach", loop, check=False)
        bridge = f"tnr{os.getpid()}"
        run("ip", "link", "add", bridge, "type", "bridge")
        self.cleanup.callback(run, "ip", "link", "delete", bridge, check=False)
        run("ip", "link", "set", bridge, "up")
        with open(os.path.join(ROOT, "examples", "demo.xml"), encoding="utf-8") as file:
            xml = file.read()
        for name, value in (("@DIR@", self.folder), ("@LOOP@", loop), ("@BRIDGE@", bridge), ("@TYPE@", "qemu")):
            xml = xml.replace(name, value)
        path = os.path.join(self.folder, "demo.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml)
        return path


class Console:
    """`tenure console GUEST` as a process; its output is read until an expected text comes."""

    def __init__(self, instance, guest):
        self.process = subprocess.Popen(
            [f"{BIN}/tenure", "--root", instance.root, "console", guest],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        instance.cleanup.callback(self.close)
        self.seen = ""

    def wait_for(self, text, seconds):
        """Returns the line that begins with `text`, once it is complete."""
        pattern = re.compile(re.escape(text) + r"[^\n]*\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not pattern.search(self.seen):
                if not selector.select(seconds):
                    raise AssertionError(f"nothing for {seconds} s while waiting for {text!r}; console:\n{self.seen}")
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise AssertionError(f"the console ended before {text!r}:\n{self.seen}")
                self.seen += data.decode(errors="replace")
        return pattern.search(self.seen).group().strip()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


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


def rules_of_bpf(cgroup):
    """cgroup v2: the rules of the guest's slot in the map of the program attached to its cgroup, by bpftool alone."""
    maps = {}
    program = str(device_program(cgroup))
    for number in json.loads(run("bpftool", "-j", "prog", "show", "id", program).stdout)["map_ids"]:
        maps[json.loads(run("bpftool", "-j", "map", "show", "id", str(number)).stdout)["type"]] = number
    words = lambda raw: [int.from_bytes(bytes(int(byte, 16) for byte in raw[i:i + 4]), "little")
                         for i in range(0, len(raw), 4)]
    inode = os.stat(cgroup).st_ino
    slots = [words(entry["value"])[0] for entry in dump(maps["cgroup_storage"])
             if words(entry["key"])[0] + (words(entry["key"])[1] << 32) == inode]
    assert len(slots) == 1 and slots[0] != 0, f"slot of {cgroup}: {slots}"
    rules = set()
    for entry in dump(maps["hash"]):
        slot, kind, major, minor = words(entry["key"])
        if slot == slots[0]:
            bits = words(entry["value"])[0]  # BPF_DEVCG_ACC_MKNOD 1, READ 2, WRITE 4
            access = "".join(letter for letter, bit in (("r", 2), ("w", 4), ("m", 1)) if bits & bit)
            rules.add(("b" if kind == 1 else "c", major, None if minor == 0xFFFFFFFF else minor, access))
    return rules


def dump(map_id):
    return json.loads(run("bpftool", "-j", "map", "dump", "id", str(map_id)).stdout)


def rules_of_history(tenures):
    """The device rules that the trail says are open."""
    rules = set()
    for tenure in tenures:
        if tenure["kind"] != "cgroup" or tenure["until"] is not None or not tenure.get("rdev"):
            continue
        major, minor = tenure["rdev"].split(":")
        rules.add((tenure["devtype"], int(major, 16), None if minor == "*" else int(minor, 16), tenure["access"]))
    return rules


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
