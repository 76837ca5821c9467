# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of whole guests share: where the programs are, a clock, and tenured's socket."""
import json
import os
import select
import shutil
import signal
import socket
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


def stop_tenured(root):
    for pid in pids_of("tenured", root):
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        select.select([ended], [], [], 30)
        os.close(ended)
