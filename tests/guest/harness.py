# SPDX-License-Identifier: Apache-2.0
"""What the guest tests in Python share: an instance of Tenure with its own root, the demo's guest on it,
its console, and independent witnesses of what the kernel has granted (bpftool, devices.list, /proc) that
use none of Tenure's code. Everything made here is named after the test and its pid and goes with it."""
import atexit
import contextlib
import fcntl
import glob
import json
import os
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from witness import (acl_users, agree, cgroups_of, device_program, driver_of, field, open_device_nodes, rdev_of,
                     rules_of_bpf, rules_of_cgroup, rules_of_devices_list, rules_of_history, run, select_pause)

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


def fences_in_turn():
    """Those named as arguments, else all of them with TENURE_FULL, else the first: for tests of what goes through the
    fence by the same steps as in hot-changes, which always tries all."""
    found = fences()
    return sys.argv[1:] or (found if "TENURE_FULL" in os.environ else found[:1])


def audit_settings():
    """What `auditctl -s` says; empty where it may not ask."""
    shown = run("auditctl", "-s", check=False) if shutil.which("auditctl") else None
    words = [line.split() for line in shown.stdout.splitlines()] if shown and shown.returncode == 0 else []
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()}


class AuditLease:
    """The machine's audit settings, borrowed for this test: a lock keeps other tests away, and a process of its own
    puts everything back as soon as the test lets go or dies. tests/kernel/audit/audit_lease.h has the same lock."""

    def __init__(self):
        self.lock = open("/run/lock/tenure-audit.lock", "w", encoding="ascii")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.found = audit_settings()
        sys.stdout.flush()
        reading, self.alive = os.pipe()
        self.guardian = os.fork()
        if self.guardian == 0:
            os.setsid()  # a ^C at the test's terminal is not for us
            os.close(self.alive)
            os.read(reading, 1)
            self.put_back()
            os._exit(0)
        os.close(reading)

    def put_back(self):
        for flag, key in (("-r", "rate_limit"), ("-b", "backlog_limit"), ("-e", "enabled")):
            run("auditctl", flag, str(self.found[key]), check=False)
        if self.found["lost"] == 0:
            run("auditctl", "--reset-lost", check=False)

    def enable(self, value):
        run("auditctl", "-e", str(value))

    def close(self):
        os.close(self.alive)
        os.waitpid(self.guardian, 0)
        self.lock.close()


_LEASE = []


def audit_lease():
    """Audit enabled until this test ends, or None where that is not ours to do (not root, locked, no auditctl)."""
    if not _LEASE:
        settings = audit_settings()
        lease = AuditLease() if os.geteuid() == 0 and settings.get("enabled") in (0, 1) else None
        _LEASE.append(lease)
        if lease:
            run("auditctl", "-b", "8192")  # without an auditd the kernel is slow to get rid of records
            lease.enable(1)
            atexit.register(lease.close)
    return _LEASE[0]


def trail_config():
    """The tenure.conf for a test that wants records in the audit system wherever this machine has one."""
    return "" if audit_lease() else 'audit = "off"\n'


def dev_of(pid):
    """The /dev that the process sees."""
    return os.path.join(f"/proc/{pid}/root", "dev")


def wait_exit(pid, seconds):
    """Returns once the process has ended (a pidfd is readable then); one that is gone already is fine."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        ended = selector.select(seconds)
    os.close(descriptor)
    assert ended, f"process {pid} does not end within {seconds} s"


class Instance:
    """A root directory with its own tenured. Use it in a with statement: what runs in it ends with it."""

    def __init__(self, config=""):
        self.folder = tempfile.mkdtemp(prefix=f"tenure-{TEST}-{os.getpid()}-")
        os.chmod(self.folder, 0o711)  # the guest's uid must reach its images in here
        self.root = os.path.join(self.folder, "root")
        os.makedirs(os.path.join(self.root, "etc", "tenure"))
        self.configure(config)
        self.cleanup = contextlib.ExitStack()
        self.pins = set()
        self.uuids = set()  # of guests that this test made
        self.images = set()  # files whose ACLs are looked at
        self.hands_off = True  # nobody changes a fence behind its back: no drift may be recorded

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            for guest in self.json("list"):
                self.tenure("kill", guest["uuid"], check=False)
        with contextlib.suppress(Exception):
            self.own_pins()
        self.end_daemon(signal.SIGTERM)
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)
            wait_exit(pid, 10)
        for uuid in self.uuids:
            for cgroup in cgroups_of(uuid):
                with contextlib.suppress(OSError):
                    os.rmdir(cgroup)
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

    def wait_ended(self, uuid):
        """Returns once the daemon has forgotten that guest's run, which it does after the last record."""
        deadline = time.monotonic() + 30
        while os.path.exists(f"{self.root}/run/tenure/runs/{uuid}"):
            assert time.monotonic() < deadline, f"the run of {uuid} does not end"
            select_pause()

    def own_pins(self):
        """The folders where the daemon's device programs are pinned; they go with this instance."""
        mine = set()
        for pid in self.daemon_pids():
            for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
                with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                    mine |= {int(line.split()[1]) for line in file if line.startswith("prog_id:")}
        for number in mine:
            self.remember_pins(number)
        return self.pins

    def tenure(self, *words, check=True):
        return run(f"{BIN}/tenure", "--root", self.root, *words, check=check)

    def call(self, method, **parameters):
        """One call over the daemon's socket, without `tenure`; returns the whole reply."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{self.root}/run/tenure/tenured.sock")
            peer.sendall(json.dumps({"method": f"org.tenure.{method}", "parameters": parameters}).encode() + b"\0")
            reply = b""
            while not reply.endswith(b"\0"):
                piece = peer.recv(65536)
                if not piece:
                    raise ConnectionError(f"{method}: tenured hung up")
                reply += piece
        return json.loads(reply[:-1])

    def configure(self, config):
        """What the next tenured reads."""
        with open(os.path.join(self.root, "etc", "tenure", "tenure.conf"), "w", encoding="utf-8") as file:
            file.write(config)

    def end_daemon(self, number):
        """Sends the signal to tenured and waits for its end."""
        for pid in self.daemon_pids():
            os.kill(pid, number)
            wait_exit(pid, 30)

    def qemu_pids(self, uuid=""):
        """Of this instance's guests, or of the one; zombies have no command line and do not count."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
                mine = [known for known in self.uuids if known in words and uuid in ("", known)]
                if mine and "-uuid" in words:
                    found.append(int(pid))
        return found

    def wait_published(self):
        """A signed checkpoint follows an operation; waits until it covers all that is durable. Without a
        daemon to ask, what is published is all there will be."""
        deadline = time.monotonic() + 30
        while True:
            try:
                info = self.call("Info")
                info = info.get("parameters", info)
            except (OSError, AssertionError, ValueError):
                return
            if info.get("ledger_size") == info.get("published"):
                return
            assert time.monotonic() < deadline, "the ledger is not published"
            select_pause()

    def entries(self):
        """The published entries of the ledger as text, in order, read by docs/ledger-format.md alone."""
        self.wait_published()
        ledger = f"{self.root}/var/lib/tenure/ledger"
        with open(f"{ledger}/checkpoint", encoding="utf-8") as file:
            size = int(file.read().splitlines()[1])
        found = []
        while len(found) < size:
            number, count = len(found) // 256, min(256, size - len(found) // 256 * 256)
            path = "".join(f"x{number // 1000 ** i % 1000:03}/" for i in (2, 1) if number >= 1000 ** i)
            path += f"{number % 1000:03}" + ("" if count == 256 else f".p/{count}")
            with open(f"{ledger}/tile/entries/{path}", "rb") as file:
                bundle, at = file.read(), 0
            while at < len(bundle):
                (length,) = struct.unpack_from(">H", bundle, at)
                found.append(bundle[at + 2:at + 2 + length].decode())
                at += 2 + length
        return found

    def wait_record(self, *pieces):
        """Waits for the published ledger entry, not an intent, that has all the pieces, and returns it."""
        deadline = time.monotonic() + 30
        while True:
            for entry in self.entries():
                if " state=intent " not in entry and all(piece in entry for piece in pieces):
                    return entry
            assert time.monotonic() < deadline, f"no record with {pieces}"
            select_pause()

    def uids(self):
        """uuid -> uid of QEMU, as tenured gave them."""
        with contextlib.suppress(FileNotFoundError), open(
                f"{self.root}/var/lib/tenure/uids.json", encoding="ascii") as file:
            return json.load(file)
        return {}

    def new_uuid(self):
        """Of this test alone: cgroups are named by it, and other tests may run beside this one."""
        uuid = f"{os.getpid():08x}-{len(self.uuids):04x}-4000-8000-{int(time.monotonic() * 1e6) % 16 ** 12:012x}"
        self.uuids.add(uuid)
        return uuid

    def add_guest(self, name, devices="", head="", uuid=None):
        """A definition of a firmware-only guest with one small disk and what `devices` adds; returns the XML's path."""
        uuid = uuid or self.new_uuid()
        disk = self.image(f"disk-{uuid}.img")
        path = os.path.join(self.folder, f"{uuid}.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(GUEST.format(name=name, uuid=uuid, disk=disk, devices=devices, head=head))
        return path

    def image(self, name, size=1 << 20):
        """An empty raw image in this instance's folder."""
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.truncate(size)
        self.images.add(path)
        return path

    def add_linux(self, name, devices="", ports=12, uuid=None):
        """A definition of a guest that boots Linux and answers hotplug, with `ports` root ports to plug into."""
        uuid = uuid or self.new_uuid()
        for source, target in (("vmlinuz", "vmlinuz"), ("initramfs", "initrd.img")):
            path = os.path.join(self.folder, target)
            if not os.path.exists(path):
                shutil.copy(os.path.join(IMAGE, source), path)
            self.images.add(path)
        roots = "".join(f"<controller type='pci' index='{i}' model='pcie-root-port'/>" for i in range(1, ports + 1))
        path = os.path.join(self.folder, f"{uuid}.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(LINUX.format(name=name, uuid=uuid, folder=self.folder, disk=self.image(f"disk-{uuid}.img"),
                                    roots=roots, devices=devices))
        return path

    def loop_device(self, name="loop.img"):
        """A loop device over an image of its own; gone with this instance."""
        loop = run("losetup", "--find", "--show", self.image(name)).stdout.strip()
        self.cleanup.callback(run, "losetup", "--detach", loop, check=False)
        return loop

    def networks(self):
        """A bridge and a lower device for macvtaps, of this test's own."""
        self.bridge, self.lower = f"tnr{os.getpid()}", f"tnv{os.getpid()}"
        run("ip", "link", "add", self.bridge, "type", "bridge")
        self.cleanup.callback(run, "ip", "link", "delete", self.bridge, check=False)
        self.bridges = [self.bridge]
        run("ip", "link", "add", self.lower, "type", "veth", "peer", "name", f"{self.lower}p")
        self.cleanup.callback(run, "ip", "link", "delete", self.lower, check=False)
        run("ip", "link", "set", self.lower, "up")

    def another_bridge(self):
        name = f"tno{os.getpid()}"
        run("ip", "link", "add", name, "type", "bridge")
        self.cleanup.callback(run, "ip", "link", "delete", name, check=False)
        self.bridges.append(name)
        return name

    def rich_devices(self):
        """A device of each kind that has an act of its own: chain, block device, tap, macvtap, pty, log file, socket."""
        base, top, log = (os.path.join(self.folder, name) for name in ("base.qcow2", "top.qcow2", "serial.log"))
        run("qemu-img", "create", "-q", "-f", "qcow2", base, "8M")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
        self.images |= {base, top, log}
        loop = self.loop_device()
        self.networks()
        return RICH.format(top=top, loop=loop, bridge=self.bridge, lower=self.lower, log=log)


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
        shutil.copy(os.path.join(IMAGE, "vmlinuz"), os.path.join(self.folder, "vmlinuz"))
        shutil.copy(os.path.join(IMAGE, "initramfs"), os.path.join(self.folder, "initrd.img"))
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
            xml = re.sub("<uuid>.*</uuid>", f"<uuid>{self.new_uuid()}</uuid>", file.read())
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


GUEST = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>{head}
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>{devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""
LINUX = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu current='1'>3</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{folder}/vmlinuz</kernel>
    <initrd>{folder}/initrd.img</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 no_timer_check</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='maximum'/>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>{roots}
    <controller type='usb' model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>{devices}
    <serial type='pty'><target port='0'/></serial>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""
RICH = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{top}'/><target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/><source dev='{loop}'/><target dev='vdc' bus='virtio'/>
    </disk>
    <interface type='bridge'><source bridge='{bridge}'/><model type='virtio'/></interface>
    <interface type='direct'><source dev='{lower}' mode='bridge'/><model type='virtio'/></interface>
    <serial type='pty'><target port='0'/></serial>
    <serial type='file'><source path='{log}'/><target port='1'/></serial>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.tenure.0'/></channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"""
