# SPDX-License-Identifier: Apache-2.0
"""Faults at each system call of tenured, by strace's injection: it is killed there, or the call fails with an error of
the kernel's. Every point of every thread is known from an undisturbed run. Normally a seeded sample of them is tried,
for about 25 seconds (TENURE_SECONDS); TENURE_SEED=N takes another. TENURE_FULL=1 tries them all, those that can tell
most first (RANKS; TENURE_RANKS=N only N of them), until TENURE_SECONDS if that is set. TENURE_WORKERS=N does it in N
instances side by side. Arguments name single points as they are printed."""
import collections
import contextlib
import multiprocessing
import os
import random
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))
import harness  # noqa: E402
import witness  # noqa: E402

FULL = os.environ.get("TENURE_FULL") == "1"
SECONDS = int(os.environ.get("TENURE_SECONDS", "1000000" if FULL or sys.argv[1:] else "25"))
WORKERS = int(os.environ.get("TENURE_WORKERS", "1"))
MAX_FAILURES = 5
RENEW = 100  # points that one instance serves for: each judgement reads its whole ledger
CLIENT_TIMEOUT = 60
SEED = int(os.environ.get("TENURE_SEED", "1"))

# What the kernel may well answer to a daemon that does everything right.
ERRORS = {
    "openat": ("EIO", "EMFILE", "ENOSPC", "EACCES"), "mkdir": ("ENOSPC", "EPERM"), "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"), "fdatasync": ("EIO", "ENOSPC"), "fsync": ("EIO",), "sendto": ("EPERM", "ENOBUFS"),
    "sendmsg": ("ENOBUFS",), "bpf": ("EPERM", "ENOMEM"), "setxattr": ("ENOSPC", "EPERM"), "fsetxattr": ("ENOSPC",), "getxattr": ("EIO",),
    "fgetxattr": ("EIO",), "newfstatat": ("EACCES",), "statx": ("EIO",),
    "ioctl": ("EPERM",), "clone3": ("ENOMEM",), "rename": ("EIO",), "renameat": ("EIO",), "renameat2": ("EIO",),
    "socket": ("EMFILE",), "rmdir": ("EBUSY",), "ftruncate": ("EIO",), "pidfd_send_signal": ("EPERM",)}

# A kill leaves the same world behind at each call between two that change something outside of the process, so only the
# last of them tells something new; and before main() has its libraries nothing was done.
RANKS = ("killed, and failed once, at each call", "each other error", "again what leaves the same world")[
    :int(os.environ.get("TENURE_RANKS", "3"))]
QUIET = frozenset(
    "access arch_prctl brk clock_nanosleep close epoll_create1 epoll_ctl faccessat2 fcntl fgetxattr fstatfs getdents64 "
    "geteuid getpid getrandom getsockopt gettid getuid getxattr lseek madvise mmap mprotect mremap munmap newfstatat "
    "prctl pread64 prlimit64 readlink readlinkat rseq rt_sigaction rt_sigprocmask set_robust_list set_tid_address "
    "setsockopt socket statfs statx sysinfo timerfd_create timerfd_settime umask uname".split())
QUIET_LINE = re.compile(r'(?!.*["<]/dev/)(read\(\d+</|openat\((?!.*O_(CREAT|TRUNC)).*O_(RDONLY|PATH)|mkdir\(.*EEXIST)')
LIBRARY_LINE = re.compile(r'openat\(.*"/(usr/)?lib/[^"]*\.so[^"]*"')
OUTCOMES = ("", "hit", "not reached", "not a fault that there is", "failed")

# A fault in the Nth call of that name (strace counts each by itself). Threads: 0 is the event loop, 1 the pool; of a
# recovery, which strace sees from its start, the pool's are those calls that the event loop makes fewer of.
Point = collections.namedtuple("Point", "operation thread call number fault")


def text_of(point):
    return ":".join(str(word) for word in point)


def point_of(text):
    operation, thread, call, number, fault = text.split(":")
    return Point(operation, int(thread), call, int(number), fault)


def injection(inject):
    """Options of strace, which then decodes that call alone: much of the time of a point."""
    return ["-e", "trace=" + inject.split(":")[0], "-e", f"inject={inject}"] if inject else []


class Tracer:
    """strace on threads of tenured; `with` holds it."""

    def __init__(self, instance, words, inject):
        self.log = os.path.join(instance.folder, "strace.log")
        command = ["strace", "-y", "-o", self.log, *injection(inject), *words]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
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
    # Faults that once did harm: (operation, what a line of strace has in it, error). Each sample begins with them.
    MENDED = ()

    def __init__(self, instance):
        self.instance = instance
        self.said = ""
        self.mended = []  # points of MENDED

    def prepare(self, operation):
        raise NotImplementedError

    def words(self, operation):
        """Arguments of `tenure`; None where tenured itself is what is run (its recovery)."""
        raise NotImplementedError

    def follow_up(self, operation, code):
        """After an error, while the tenured that met it still runs: what must be possible now."""

    def settle(self, operation, code):
        """Before the judgement: waits for what goes on by itself after the operation."""

    def judge(self, operation, code, running):
        """What the client was told (exit code, None if it heard nothing) must be what is true."""
        raise NotImplementedError

    def survived(self, running):
        """The guest must still run; says what is known of its end."""
        if running:
            return
        stops = [entry for entry in self.instance.entries() if " op=stop " in entry]
        logs = os.path.join(self.instance.root, "var/log/tenure")
        ends = []
        for name in sorted(os.listdir(logs)):
            with open(os.path.join(logs, name), encoding="utf-8", errors="replace") as file:
                ends.append(f"{name}: {''.join(file.readlines()[-8:])}")
        raise AssertionError("\n".join(["the guest did not survive", *stops[-1:], *ends]))

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
            return self.traced_recovery(thread, inject)
        pid = self.daemon()
        threads = [tid for tid in os.listdir(f"/proc/{pid}/task") if (tid == str(pid)) == (thread == 0)]
        words = [word for tid in threads for word in ("-p", tid)]
        with Tracer(self.instance, words, inject) as tracer:
            tracer.wait_attached(len(threads))
            code = self.client(operation)
        # One that dies has no command line any more, and may still have its socket.
        if pid not in self.instance.daemon_pids():
            harness.wait_exit(pid, 20)
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

    def traced_recovery(self, thread, inject):
        ready, ready_end = os.pipe()
        os.set_inheritable(ready_end, True)
        words = [f"{harness.BIN}/tenured", "--root", self.instance.root, "--ready-fd", str(ready_end)]
        self.said = ""
        log = os.path.join(self.instance.folder, "strace.log")
        follow = ["-f"] if thread else []
        tracer = subprocess.Popen(["strace", "-y", *follow, "-o", log, *injection(inject), *words],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  pass_fds=[ready_end])
        os.close(ready_end)
        with selectors.DefaultSelector() as selector:
            selector.register(ready, selectors.EVENT_READ)
            answered = selector.select(CLIENT_TIMEOUT)  # ready, or dead
        os.close(ready)
        serves = bool(self.instance.daemon_pids())
        self.instance.end_daemon(signal.SIGKILL)
        tracer.wait(30)
        assert answered, "tenured neither serves nor ends"
        with open(log, encoding="utf-8", errors="replace") as file:
            return 0, [line for line in file.read().splitlines() if not (serves and "+++ killed" in line)]

    def points(self, operation, thread):
        """All faults of one thread in one operation with their ranks, from an undisturbed run of it."""
        code, lines = self.traced(operation, thread, "")
        assert code == 0, f"an undisturbed {operation} fails: {self.said}"
        seen, ranks, quiet = collections.Counter(), {}, {}
        calls = [match.groups() for match in (re.match(r"(\d*) *((\w+)\(.*)", line) for line in lines) if match]
        loop = None  # a recovery's pool is seen together with the event loop
        if thread and self.words(operation) is None:
            loop = calls[0][0]
        of_loop = collections.Counter(call for task, _, call in calls if task == loop)
        for task, text, call in calls:
            seen[task, call] += 1
            number = seen[task, call]
            if task == loop or number <= of_loop[call]:
                continue
            kill = Point(operation, thread, call, number, "KILL")
            if task in quiet:
                ranks[quiet.pop(task)] = 2
            ranks[kill] = 0
            if call in QUIET or QUIET_LINE.match(text):
                quiet[task] = kill
            if "<anon_inode:[event" in text or "<pipe:" in text:  # no kernel fails these
                continue
            self.mended += [Point(operation, thread, call, number, error) for where, what, error in self.MENDED
                            if where == operation and re.search(what, text)]
            errors = ERRORS.get(call, ())
            for index, error in enumerate(errors):
                rank = 2 if LIBRARY_LINE.match(text) else int(index != number % len(errors))
                ranks[Point(operation, thread, call, number, error)] = rank
        return ranks

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
        if point.fault != "KILL":
            self.follow_up(point.operation, code)
        self.instance.end_daemon(signal.SIGKILL)
        self.settle(point.operation, code)
        running = witness.agree(self.instance)
        self.judge(point.operation, code, running)
        return "hit" if hit else "not reached"


def all_points(subject):
    """Every point and its rank."""
    ranks = {}
    for operation in subject.OPERATIONS:
        for thread in (0, 1):
            ranks.update(subject.points(operation, thread))
    ranks.update(dict.fromkeys(subject.mended, 0 if FULL else -1))
    counts = collections.Counter((point.operation, point.fault == "KILL") for point in ranks)
    for (operation, killed), count in sorted(counts.items()):
        print(f"{operation}: {count} points at which {'tenured dies' if killed else 'a call fails'}")
    return ranks


def choose(ranks):
    """The points in the order in which they are tried."""
    points = list(ranks)
    random.Random(SEED).shuffle(points)
    if FULL:
        return sorted((point for point in points if ranks[point] < len(RANKS)), key=ranks.get)
    return sorted((point for point in points if ranks[point] < 2), key=lambda point: ranks[point] >= 0)


class Worker:
    """One instance after the other with a Subject in it."""

    def __init__(self, make_subject):
        self.make_subject, self.stack, self.left = make_subject, contextlib.ExitStack(), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def renew(self):
        # Without audit: the ledger is the trail either way, and audit has faults of its own (guest.audit-states). With
        # uids of its own: a guest that could not tell whether it may search /tmp gets an entry there.
        self.stack.close()
        config = f'audit = "off"\nuid_first = {1_000_000 + 100 * os.getpid()}\nuid_count = 100\n'
        self.subject = self.make_subject(self.stack.enter_context(harness.Instance(config)))
        self.left = RENEW

    def check(self, point):
        """One point; returns its outcome."""
        if self.left == 0:
            self.renew()
        self.left -= 1
        try:
            outcome, said = self.subject.check(point), ""
        except Exception as error:  # whatever it is, the other points are to be tried
            outcome, said = "failed", f": {type(error).__name__}: {error}"
            self.left = 0
            with contextlib.suppress(Exception):
                self.subject.reset()
        if FULL or sys.argv[1:] or outcome == "failed":
            print(f"{time.strftime('%H:%M:%S')} {text_of(point)}: {outcome}{said}", flush=True)
        return outcome

    def work(self, points, following, outcomes, end):
        """Takes points as long as there are any; `following` and `outcomes` are shared by all workers."""
        while time.monotonic() < end and (FULL or list(outcomes).count(OUTCOMES.index("failed")) < MAX_FAILURES):
            with following.get_lock():
                index = following.value
                following.value += 1
            if index >= len(points):
                return
            outcomes[index] = OUTCOMES.index(self.check(points[index]))


def other_worker(make_subject, *shared):
    with Worker(make_subject) as worker:
        worker.work(*shared)


def report(points, ranks, outcomes):
    """Prints what was tried; returns how many points failed."""
    for rank, name in enumerate(RANKS if FULL else ()):
        for operation in dict.fromkeys(ranks[point] == rank and point.operation for point in points):
            of_it = [OUTCOMES[outcomes[i]] for i, point in enumerate(points)
                     if ranks[point] == rank and point.operation == operation]
            tried = collections.Counter(outcome for outcome in of_it if outcome)
            if of_it:
                print(f"{operation}, {name}: {sum(tried.values())} of {len(of_it)} tried: {dict(tried)}")
    tried = collections.Counter(OUTCOMES[outcome] for outcome in outcomes if outcome)
    print(f"seed {SEED}: {sum(tried.values())} of {len(points)} points tried: {dict(tried)}")
    return tried["failed"]


def run(make_subject):
    """The whole of a test: its points on Subjects that make_subject(instance) makes."""
    harness.need_root()
    harness.need_programs()
    if not shutil.which("strace"):
        harness.skip("no strace (tools/install-packages test)")
    with Worker(make_subject) as worker:
        worker.renew()
        if sys.argv[1:]:
            points = [point_of(text) for text in sys.argv[1:]]
            ranks = dict.fromkeys(points, 0)
        else:
            ranks = all_points(worker.subject)
            points = choose(ranks)
        shared = (points, multiprocessing.Value("i", 0), multiprocessing.Array("b", len(points)),
                  time.monotonic() + SECONDS)
        sys.stdout.flush()
        others = [multiprocessing.Process(target=other_worker, args=(make_subject, *shared)) for _ in range(1, WORKERS)]
        for other in others:
            other.start()
        worker.work(*shared)
        for other in others:
            other.join()
    failed = report(points, ranks, shared[2])
    sys.exit(1 if failed or any(other.exitcode for other in others) else 0)
