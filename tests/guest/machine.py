# SPDX-License-Identifier: Apache-2.0
"""The machine with real devices: Debian's full kernel in a QEMU of its own, with an IOMMU, a USB controller, spare
network cards and a keyboard. Its root is that of the host, read-only, so that the very programs and tests of this checkout
run in it. Below: what a test does outside (boot) and inside of it (Machine, an instance that is asked over its socket
where that will do, for each process takes half a second to start without KVM)."""
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import harness

OUT = os.path.join(harness.ROOT, "build", "machine")
# By their places in the machine.
LONE = "0000:00:10.0"  # an e1000e in an IOMMU group of its own
PAIR = ("0000:01:01.0", "0000:01:02.0")  # two e1000 behind a bridge: one IOMMU group
QEMU = ["-machine", "q35,kernel-irqchip=off", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2G", "-nodefaults",
        "-display", "none", "-no-reboot", "-serial", "stdio", "-device", "intel-iommu,caching-mode=on",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        "-device", "qemu-xhci,id=usb", "-device", "usb-kbd,bus=usb.0",
        "-blockdev", "driver=null-co,node-name=stick,size=1048576",
        "-device", "usb-storage,bus=usb.0,drive=stick,serial=1",
        "-netdev", "user,id=lone,restrict=on", "-device", "e1000e,netdev=lone,romfile=,addr=0x10",
        "-device", "pcie-pci-bridge,id=bridge,addr=0x11"]
for function in (1, 2):
    QEMU += ["-netdev", f"user,id=pair{function},restrict=on",
             "-device", f"e1000,netdev=pair{function},romfile=,bus=bridge,addr={function}"]
STICK = ("46f4", "0001")  # vendor and product of QEMU's usb-storage
PORTS = "".join(f"<controller type='pci' index='{i}' model='pcie-root-port'/>" for i in range(1, 9))


def boot(program, seconds):
    """Runs `program inside`, with our own arguments, in the machine, shows what it prints, and ends as it did."""
    if not shutil.which("qemu-system-x86_64"):
        harness.skip("no qemu-system-x86_64 (tools/install-packages test)")
    made = subprocess.run([os.path.join(harness.ROOT, "tools", "make-guest"), "--machine"], check=False, text=True,
                          capture_output=True)
    if made.returncode != 0:
        harness.skip(f"the machine cannot be made here: {made.stderr.strip()}")
    harness.need_programs()
    # The kernel hands on what it does not know to init, as its environment.
    passed = {"MACHINE_RUN": program, "MACHINE_WORDS": " ".join(sys.argv[1:]), "TENURE_BIN": os.path.abspath(harness.BIN)}
    passed |= {name: os.environ[name] for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
    line = " ".join(["console=ttyS0 loglevel=1 panic=-1 no_timer_check mitigations=off intel_iommu=on"] +
                    [f'"{name}={value}"' for name, value in passed.items()])
    command = ["qemu-system-x86_64", *QEMU, "-kernel", f"{OUT}/vmlinuz", "-initrd", f"{OUT}/initramfs", "-append", line]
    code = None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        late = threading.Timer(seconds, running.kill)
        late.start()
        for line in running.stdout:
            text = re.sub(r"\x1b\S*?[a-zA-Z]", "", line.decode(errors="replace")).strip("\r\n")
            print(text, flush=True)
            code = re.fullmatch(r"machine: exit (\d+)", text) or code
        if not late.is_alive():
            print(f"the machine did not end within {seconds} s")
        late.cancel()
    sys.exit(int(code.group(1)) if code else 1)


class Machine(harness.Instance):
    """An instance inside."""

    # What agree() asks for, by the daemon's own method: (method, parameters, what the lines are made of).
    ASKED = {"list": ("List", lambda words: {}, lambda reply: reply["guests"]),
             "status": ("Status", lambda words: {"guest": words[1]}, lambda reply: [reply["status"]]),
             "undefine": ("Undefine", lambda words: {"guest": words[1]}, lambda reply: []),
             "verify": ("VerifyLedger", lambda words: {}, lambda reply: reply["problems"])}

    def own_pins(self):
        """None to look after: they go with the machine."""
        return set()

    def tenure(self, *words, check=True):
        if words[0] not in self.ASKED or not self.daemon_pids():
            return super().tenure(*words, check=check)
        method, parameters, lines = self.ASKED[words[0]]
        reply = self.call(method, **parameters(words))
        found = [] if "error" in reply else lines(reply["parameters"])
        bad = "error" in reply or words[0] == "verify" and found
        done = subprocess.CompletedProcess(words, 1 if bad else 0, "".join(json.dumps(one) + "\n" for one in found),
                                           json.dumps(reply) if bad else "")
        assert not (check and bad), reply
        return done

    def ask(self, method, **parameters):
        reply = self.call(method, **parameters)
        assert "error" not in reply, f"{method} {parameters}: {reply}"
        return reply["parameters"]

    def refused(self, text, method, **parameters):
        """The request fails with that text, and nothing of it is left."""
        reply = self.call(method, **parameters)
        message = reply.get("parameters", {}).get("message", "")
        assert "error" in reply and text in message, f"{method} {parameters}: {text!r} expected: {reply}"
        harness.agree(self)
        return message

    def attach(self, xml, guest="dev"):
        alias = self.ask("Attach", guest=guest, xml=xml, source="test")["alias"]
        harness.agree(self)
        return alias

    def detach(self, device, guest="dev", **parameters):
        self.ask("Detach", guest=guest, device=device, **parameters)
        harness.agree(self)
        self.assert_released(device)

    def grants_of(self, holder):
        """index of the grant -> its records in order, of what that device of a guest was given."""
        found = {}
        names = {holder, f"hostdev:{holder}", f"input:{holder}", f"net:{holder}"}
        for entry in self.entries():
            grant = harness.field(entry, "grant")
            if " state=intent " not in entry and " state=void " not in entry and grant and names & {
                    harness.field(entry, key) for key in ("for", "alias", "device")}:
                found.setdefault(int(grant), []).append(entry)
        return found

    def assert_released(self, holder):
        """Each grant has one record of its beginning and one of its end, which names it."""
        grants = self.grants_of(holder)
        assert grants, f"no grant of {holder}"
        for grant, records in grants.items():
            if len(records) == 1 and "res=failed" in records[0]:
                continue  # refused: nothing began
            ended = [record for record in records[1:] if "res=success" in record]
            assert len(ended) == 1 and "res=success" in records[0], (grant, records)


def as_q35(path):
    """A guest of firmware alone that lets go of what is plugged into it: machines before 6.1 plug by PCIe itself, and a
    slot that no system has switched on is emptied without asking (hw/pci/pcie.c, pcie_cap_slot_unplug_request_cb)."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("pc-i440fx-7.2", "pc-q35-6.0"))


def text_of(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
