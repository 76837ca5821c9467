# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of whole guests share: where the programs are, a clock, and tenured's socket."""
import contextlib
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("TENURE_BIN", os.path.join(ROOT, "build", "release", "bin"))
EMULATOR = shutil.which("qemu-system-x86_64")


def timed(action):
    """Milliseconds."""
    began = time.monotonic()
    action()
    return (time.monotonic() - began) * 1000


class Daemon:
    """tenured's socket, spoken to as `tenure` does."""

    def __init__(self, path):
        self.path = path

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self.path)
            peer.sendall(json.dumps({"method": f"org.tenure.{method}", "parameters": parameters}).encode() + b"\0")
            answer = b""
            while not answer.endswith(b"\0"):
                piece = peer.recv(1 << 16)
                if not piece:
                    raise SystemExit(f"{method}: tenured hung up")
                answer += piece
        if b'"error"' in answer:
            raise SystemExit(f"{method}: {answer.decode()}")


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def pids_of(program, argument=None):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == program and (argument is None or argument in words):
            found.append(int(pid))
    return found


def pins_of(pid):
    """The folders in which the device programs are pinned that the process has open."""
    programs = set()
    for path in glob.glob(f"/proc/{pid}/fdinfo/*"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            programs |= {int(line.split()[1]) for line in file if line.startswith("prog_id:")}
    found = []
    for pin in glob.glob("/sys/fs/bpf/tenure-*/program"):
        shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned", pin], capture_output=True, check=False)
        if shown.returncode == 0 and json.loads(shown.stdout)["id"] in programs:
            found.append(os.path.dirname(pin))
    return found


def stop_tenured(root):
    """Ends it, and takes what it has pinned away: guests that it left would lose their fence."""
    for pid in pids_of("tenured", root):
        pins = pins_of(pid)
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        select.select([ended], [], [], 30)
        os.close(ended)
        for folder in pins:
            shutil.rmtree(folder, ignore_errors=True)
