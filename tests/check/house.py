# SPDX-License-Identifier: Apache-2.0
"""What the checks of the house rules share: which files are ours, and how a check reports.

A check is an executable beside this file. It prints one line a violation, "path:line: what and what to
do", and exits 1 if there was any; 77 with a line "skip: why" if it cannot run here.
"""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def files(*prefixes, endings=None):
    """Files that are committed or could be (not ignored), as paths below the root, sorted."""
    command = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        output = subprocess.run(command, capture_output=True, check=True).stdout
        names = [name for name in output.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = walk()
    chosen = []
    for name in sorted(names):
        path = os.path.join(ROOT, name)
        if prefixes and not name.startswith(tuple(prefixes)):
            continue
        if endings and not name.endswith(tuple(endings)):
            continue
        if os.path.isfile(path) and not os.path.islink(path):
            chosen.append(name)
    return chosen


def walk():
    """Without git (a source archive): everything but the build folder."""
    names = []
    for folder, folders, entries in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ("build", ".git")]
        names += [os.path.relpath(os.path.join(folder, entry), ROOT) for entry in entries]
    return names


def text(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def lines(name):
    return text(name).splitlines()


def finish(violations, looked_at):
    """Prints the violations and ends the check."""
    for violation in violations:
        print(violation)
    print(f"{looked_at} files looked at, {len(violations)} violations")
    sys.exit(1 if violations else 0)
