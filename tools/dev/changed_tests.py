#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the test programs that depend on the files named on standard input, one a line.

    git diff --name-only COMMIT | tools/dev/changed_tests.py build/release

Ninja knows: a test is chosen when a changed file is among the inputs of its program (`ninja -t inputs`), among the
headers of the objects in it (`ninja -t deps`), or lies in the test's own folder. Of an object that was never compiled
the headers are not known yet; all headers of the rooms that it may see count then, which is more and never less.
"""
import os
import pathlib
import re
import subprocess
import sys


def ninja(build, *arguments):
    done = subprocess.run(["ninja", "-C", build, *arguments], capture_output=True, text=True)
    # A target that ninja does not know ends it; what it prints then is not a list.
    return done.stdout.splitlines() if done.returncode == 0 else []


class Tree:
    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.source = pathlib.Path.cwd()
        self.seen = {}  # folder of links -> its headers

    def name(self, path):
        """The path from the source root: rooms are reached through links below <build>/sees/<target>/."""
        full = os.path.normpath(os.path.join(self.build, path))
        link = re.match(re.escape(str(self.build / "sees")) + r"/[^/]+/(.*)", full)
        return link[1] if link else os.path.relpath(full, self.source)

    def headers(self):
        """Object -> the files that its last compilation read."""
        out, current = {}, None
        for line in ninja(self.build, "-t", "deps"):
            if line.startswith(" "):
                current.add(self.name(line.strip()))
            elif ": #deps" in line:
                current = out.setdefault(line.split(": #deps")[0], set())
        return out

    def rooms_of(self, target):
        if target not in self.seen:
            folder = self.build / "sees" / target
            files = set()
            for top, folders, names in os.walk(folder, followlinks=True):
                files |= {self.name(os.path.join(top, name)) for name in names}
            self.seen[target] = files
        return self.seen[target]


def programs(build):
    """The programs below bin/tests: ctest knows each by its own name."""
    for line in ninja(build, "-t", "targets", "all"):
        found = re.match(r"bin/tests/(\w+_test): ", line)
        if found:
            yield found[1]


def main():
    tree = Tree(sys.argv[1])
    changed = {line.strip() for line in sys.stdin if line.strip()}
    changed_folders = {os.path.dirname(name) for name in changed}
    headers = tree.headers()
    for test in programs(tree.build):
        files = set()
        for item in ninja(tree.build, "-t", "inputs", f"bin/tests/{test}"):
            target = re.search(r"CMakeFiles/([^/]+)\.dir/.*\.o$", item)
            if not target:
                files.add(tree.name(item))
            else:
                files |= headers[item] if item in headers else tree.rooms_of(target[1])
        own = {os.path.dirname(name) for name in files if name.startswith("tests/") and name.endswith(".cpp")}
        if files & changed or own & changed_folders:
            print(test)
    return 0


if __name__ == "__main__":
    sys.exit(main())
