#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tidy.py DATABASE FILE...: clang-tidy over these sources as DATABASE (compile_commands.json) compiles them, two at a
time on two cores. Prints what is wrong. A source that was right stays right until it, a header of it, .clang-tidy or
the tool changes: that is kept outside the tree, under ~/.cache/ballast/tidy, and not looked at again."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

RIGHT = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ballast/tidy"


def seen(entry, settings):
    """What clang-tidy sees of a source: its text, for the words in comments, and what the preprocessor makes of it."""
    words = shlex.split(entry["command"])
    words = words[1 if pathlib.Path(words[0]).name == "ccache" else 0:]
    if "-o" in words:
        del words[words.index("-o"):words.index("-o") + 2]
    made = subprocess.run([word for word in words if word != "-c"] + ["-E"], cwd=entry["directory"], check=True,
                          capture_output=True).stdout
    root = str(pathlib.Path.cwd()).encode()  # the same in another checkout
    return hashlib.sha256(settings + pathlib.Path(entry["file"]).read_bytes() + made.replace(root, b"")).hexdigest()


def wrong_in(entry, database, settings):
    try:
        right = RIGHT / seen(entry, settings)
    except subprocess.CalledProcessError as error:
        return entry["file"] + ": error: not compiled: " + error.stderr.decode().strip().split("\n")[0]
    if right.exists():
        return ""
    said = subprocess.run(["nice", "-n", "10", "clang-tidy", "--quiet", "-p", database.parent,
                           "--extra-arg=-Wno-unknown-warning-option", entry["file"]], check=False,
                          capture_output=True, text=True)
    errors = [line for line in said.stdout.splitlines() if ": error: " in line]
    # LibTorch's headers beside those of g++ 12 are more than clang 14 can read; in the build folder bpftool wrote.
    not_ours = ("/usr/", str(database.parent.absolute()))
    wrong = [line for line in errors if not line.startswith(not_ours)]
    if said.returncode != 0 and not errors:
        wrong = [f"{entry['file']}: error: clang-tidy ended with {said.returncode}"]
    if not wrong:
        RIGHT.mkdir(parents=True, exist_ok=True)
        right.touch()
    return "\n".join(wrong)


def main():
    database = pathlib.Path(sys.argv[1])
    wanted = {str(pathlib.Path(name).absolute()) for name in sys.argv[2:]}
    entries = {each["file"]: each for each in json.loads(database.read_text()) if each["file"] in wanted}
    version = subprocess.run(["clang-tidy", "--version"], check=True, capture_output=True).stdout
    rules = subprocess.run(["git", "ls-files", "*.clang-tidy"], check=True, capture_output=True, text=True).stdout.split()
    settings = version + b"".join(pathlib.Path(name).read_bytes() for name in rules)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(filter(None, pool.map(lambda each: wrong_in(each, database, settings), entries.values())))
    for line in sorted({line for one in found for line in one.splitlines()}):
        print("lint: " + line.removeprefix(str(pathlib.Path.cwd()) + "/"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
