# SPDX-License-Identifier: Apache-2.0
"""Faults at each system call of tenured, by strace's injection: it is killed there, or the call fails with an error of
the kernel's. Every point of every thread is known from an undisturbed run. Normally a seeded sample of them is tried,
for about 25 seconds (TENURE_SECONDS); TENURE_FULL=1 tries them all, TENURE_SEED=N another sample. Arguments name
single points as they are printed."""
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))
import harness  # noqa: E402
import witness  # noqa: E402

SECONDS = int(os.environ.get("TENURE_SECONDS", "25"))
MAX_FAILURES = 5
CLIENT_TIMEOUT = 60
FULL = os.environ.get("TENURE_FULL") == "1"
SEED = int(os.environ.get("TENURE_SEED", "1"))

# What the kernel may well answer to a daemon that does everything right.
ERRORS = {
    "openat": ("EIO", "EMFILE", "ENOSPC", "EACCES"), "mkdir": ("ENOSPC", "EPERM"), "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"), "fdatasync": ("EIO", "ENOSPC"), "fsync": ("EIO",), "sendto": ("EPERM", "ENOBUFS"),
    "sendmsg": ("ENOBUFS",), "bpf": ("EPERM", "ENOMEM"), "setxattr": ("ENOSPC", "EPERM"), "fsetxattr": ("ENOSPC",), "getxattr": ("EIO",),
    "fgetxattr": ("EIO",), "newfstatat": ("EACCES",), "statx": ("EIO",),
    "ioctl": ("EPERM",), "clone3": ("ENOMEM",), "rename": ("EIO",), "renameat": ("EIO",), "renameat2": ("EIO",),
    "socket": ("EMFILE",), "rmdir": ("EBUSY",), "ftruncate": ("EIO",), "pidfd_send_signal": ("EPERM",)}

# A fault in the Nth call of that name (strace counts each by itself). Threads: 0 is the event loop, 1 the pool.
Point = collections.namedtuple("Point", "operation thread call number fault")


def text_of(point):
    return ":".join(str(word) for word in point)


def point_of(text):
    operation, thread, call, number, fault = text.split(":")
    return Point(operation, int(thread), call, int(number), fault)


class Tracer:
    """strace on threads of tenured; `with` holds it."""

    def __init__(self, instance, words, inject):
        self.log = os.path.join(instance.folder, "strace.log")
        options = ["-e", f"inject={inject}"] if inject else []
        self.process = subprocess.Popen(["strace", "-y", "-o", self.log, *options, *words], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait_attached(self, count):
        for line in self.process.stderr:
            count -= " attached" in line
            if count == 0:
                return
        raise AssertionError("strace did not attach")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # it detaches
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()

    def lines(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()


class Subject:
    """One instance and what is done in it again and again. A test names its OPERATIONS and says how each is prepared,
    what `tenure` is told for it, and what must hold when the client had its answer."""

    OPERATIONS = ()

    def __init__(self, instance):
        self.instance = instance
        self.said = ""

    def prepare(self, operation):
        raise NotImplementedError

    def words(self, operation):
        """Arguments of `tenure`; None where tenured itself is what is run (its recovery)."""
        raise NotImplementedError

    def settle(self, operation, code):
        """Before the judgement: waits for what goes on by itself after the operation."""

    def judge(self, operation, code, running):
        """What the client was told (exit code, None if it heard nothing) must be what is true."""
        raise NotImplementedError

    def daemon(self):
        self.instance.tenure("list", check=False)
        (pid,) = self.instance.daemon_pids()
        return pid

    def reset(self):
        """After a failed point, so that the next one tells only of itself."""
        self.instance.end_daemon(signal.SIGKILL)
        for pid in self.instance.qemu_pids():
            os.kill(pid, signal.SIGKILL)
            harness.wait_exit(pid, 20)
        self.daemon()
        for uuid in self.instance.uuids:
            for cgroup in harness.cgroups_of(uuid):
                os.rmdir(cgroup)

    def traced(self, operation, thread, inject):
        """Runs the operation with a thread under strace; returns (exit code of the client, strace's lines)."""
        self.prepare(operation)
        if self.words(operation) is None:
            return self.traced_recovery(inject)
        pid = self.daemon()
        threads = [tid for tid in os.listdir(f"/proc/{pid}/task") if (tid == str(pid)) == (thread == 0)]
        words = [word for tid in threads for word in ("-p", tid)]
        with Tracer(self.instance, words, inject) as tracer:
            tracer.wait_attached(len(threads))
            code = self.client(operation)
        return code, tracer.lines()

    def client(self, operation):
        client = subprocess.Popen([f"{harness.BIN}/tenure", "--root", self.instance.root, *self.words(operation)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, self.said = client.communicate(timeout=CLIENT_TIMEOUT)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            self.said = f"no answer for {CLIENT_TIMEOUT} s"
            return None
        return client.returncode

    def traced_recovery(self, inject):
        ready, ready_end = os.pipe()
        os.set_inheritable(ready_end, True)
        words = [f"{harness.BIN}/tenured", "--root", self.instance.root, "--ready-fd", str(ready_end)]
        self.said = ""
        log = os.path.join(self.instance.folder, "strace.log")
        options = ["-e", f"inject={inject}"] if inject else []
        tracer = subprocess.Popen(["strace", "-y", "-o", log, *options, *words], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[ready_end])
        os.close(ready_end)
        os.read(ready, 1)  # ready, or dead
        os.close(ready)
        self.instance.end_daemon(signal.SIGKILL)
        tracer.wait(30)
        with open(log, encoding="utf-8", errors="replace") as file:
            return 0, file.read().splitlines()

    def points(self, operation, thread):
        """All faults of one thread in one operation, from an undisturbed run of it."""
        code, lines = self.traced(operation, thread, "")
        assert code == 0, f"an undisturbed {operation} fails: {self.said}"
        seen = collections.Counter()
        found = {}
        for line in lines:
            match = re.match(r"(\d* *)(\w+)\(", line)
            if not match:
                continue
            call = match.group(2)
            seen[match.groups()] += 1
            faults = ["KILL"]
            if "<anon_inode:[event" not in line and "<pipe:" not in line:  # no kernel fails these
                faults += ERRORS.get(call, ())
            found.update({Point(operation, thread, call, seen[match.groups()], fault): None for fault in faults})
        return list(found)

    def check(self, point):
        """One fault, then the judgement."""
        fault = "signal=SIGKILL" if point.fault == "KILL" else f"error={point.fault}"
        code, lines = self.traced(point.operation, point.thread, f"{point.call}:{fault}:when={point.number}")
        hit = [line for line in lines if "(INJECTED)" in line or "+++ killed by SIGKILL" in line]
        if any("<anon_inode:[event" in line or "<pipe:" in line for line in hit):
            self.instance.end_daemon(signal.SIGKILL)
            return "not a fault that there is"
        if code is None and point.fault != "KILL":
            raise AssertionError(f"{self.said}; the fault was {hit}")
        self.instance.end_daemon(signal.SIGKILL)
        self.settle(point.operation, code)
        running = witness.agree(self.instance)
        self.judge(point.operation, code, running)
        return "hit" if hit else "not reached"


def choose(points):
    if sys.argv[1:]:
        return [point_of(text) for text in sys.argv[1:]]
    if not FULL:
        random.Random(SEED).shuffle(points)
    return points


def all_points(subject):
    points = []
    for operation in subject.OPERATIONS:
        for thread in (0,) if subject.words(operation) is None else (0, 1):
            points += subject.points(operation, thread)
    counts = collections.Counter((point.operation, point.fault == "KILL") for point in points)
    for (operation, killed), count in sorted(counts.items()):
        print(f"{operation}: {count} points at which {'tenured dies' if killed else 'a call fails'}")
    return points


def run(make_subject):
    """The whole of a test: its points on a Subject that make_subject(instance) makes."""
    harness.need_root()
    harness.need_programs()
    if not shutil.which("strace"):
        harness.skip("no strace (tools/install-packages test)")
    failures, tried = [], collections.Counter()
    # Without audit: the ledger is the trail either way, and audit has faults of its own (guest.audit-states).
    with harness.Instance('audit = "off"\n') as instance:
        subject = make_subject(instance)
        points = choose([] if sys.argv[1:] else all_points(subject))
        end = time.monotonic() + SECONDS
        for point in points:
            if time.monotonic() > end and not FULL and not sys.argv[1:]:
                break
            try:
                outcome = subject.check(point)
                tried[outcome] += 1
                if FULL or sys.argv[1:]:
                    print(f"{text_of(point)}: {outcome}", flush=True)
            except AssertionError as error:
                failures.append(point)
                print(f"{text_of(point)}: {error}", flush=True)
                subject.reset()
                if len(failures) == MAX_FAILURES and not FULL:
                    break
    print(f"seed {SEED}: {sum(tried.values())} of {len(points)} points tried: {dict(tried)}; {len(failures)} failed")
    sys.exit(1 if failures else 0)

