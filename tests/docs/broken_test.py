#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""broken_test.py SOURCE_DIR BIN_DIR: each check of pages.py and commands_test.py is shown a tree that is wrong in one
place, and has to say so."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import commands_test
import pages

ARCHITECTURE, TROUBLES = "docs/architecture.md", "docs/troubleshooting.md"

# check, file, what is replaced (None: appended), by what, the complaint.
BROKEN = [
    ("links", "README.md", None, "[x](docs/nowhere.md)", "docs/nowhere.md leads to no file"),
    ("links", "README.md", None, "[x](docs/limits.md#nothing-of-the-kind)", "no heading #nothing-of-the-kind"),
    ("links", "docs/limits.md", None, "[x](../../outside.md)", "leads to no file"),
    ("links", "README.md", None, '<img src="docs/pictures/none.svg">', "none.svg leads to no file"),
    ("paths", "docs/limits.md", None, "`agent/guard/nothing.h` says so", "there is no agent/guard/nothing.h"),
    ("outside", "docs/limits.md", None, "see design section 10", "design section"),
    ("outside", "core/base/result.h", None, "// design section 10", "design section"),
    ("outside", "docs/limits.md", None, "as `../shared/x` says", "../shared"),
    ("sizes", "README.md", None, "x" * 9000, "at most 8192"),
    ("reachable", "docs/orphan.md", None, "# Alone", "docs/orphan.md: no way leads to it"),
    ("rooms", "cmake/rooms.cmake", "agent/guard agent/turn", "agent/guard agent/mirror agent/turn",
     "the map lacks the room agent/mirror"),
    ("rooms", "cmake/rooms.cmake", "agent/kernel agent/kube", "agent/kube agent/kernel", "order"),
    ("rooms", ARCHITECTURE, "| `agent/guard` | ", "| `agent/gard` | ", "which is no room"),
    ("rooms", "agent/attic/old.h", None, "#pragma once", "no row of the map has the folder agent/attic"),
    ("touches", "model/sim/technique.h", None, "enum { kRunQueue };", "known to model/sim/technique.h too"),
    ("touches", ARCHITECTURE, "`core/spec/spec.h`, `core/observe", "`core/spec/spec.h`, `core/base/log.h`, `core/observe",
     "core/base/log.h does not know"),
    ("touches", ARCHITECTURE, "| learner | its file and 1 |", "| learner | its file and 0 |", "may touch"),
    ("hints", "agent/kernel/object.cpp", "--log debug shows", "--log-level debug shows", "no program has --log-level"),
    ("troubles", TROUBLES, "| `Headless` |", "| `Headles` |", "the Event Headless is not explained"),
    ("troubles", TROUBLES, "| `Headless` |", "| `Headles` |", "no code says the Event Headles"),
    ("troubles", TROUBLES, "| `in_doubt` |", "| `in_trouble` |", "the loss in_doubt is not explained"),
    ("troubles", TROUBLES, "`is held by another ballastd`", "`is owned by another ballastd`", "no code says"),
]

# A block of a page, and the complaint.
BROKEN_BLOCKS = [
    ("sh", "ballastd --no-such-flag", "ballastd has no --no-such-flag"),
    ("sh", "ballastctl nonesuch", "ballastctl has no verb nonesuch"),
    ("sh", "ballast-lab run --scenario nonesuch --policy ballast", "--scenario nonesuch is not known"),
    ("sh", "ballast-lab run --scenario demo --policy nonesuch", "--policy nonesuch is not known"),
    ("sh", "ballast-bench nonesuch", "ballast-bench has no nonesuch"),
    ("sh", "tools/demo.sh --no-such-flag", "tools/demo.sh has no --no-such-flag"),
    ("sh", "tools/nonesuch.sh", "there is no tools/nonesuch.sh"),
    ("sh", "kubectl apply -k deploy/nonesuch", "has no kustomization.yaml"),
    ("sh", "kubectl exec daemonset/ballastd -- ballastctl nonesuch", "ballastctl has no verb nonesuch"),
    ("yaml", "tick_ms: 1", "tick_ms"),
    ("yaml", "mode: active\nno_such_key: 1", "no_such_key"),
    ("yaml", "pods:\n  - {cgroup: /a, pod: a, servise: b}", "servise"),
    ("yaml", "a: [", "no YAML"),
    ("yaml", "clusters:\n  - {name: web, type: NONESUCH}", "NONESUCH"),
]


def copy(source, to):
    """The files of the tree that the checks read, as a repository of their own."""
    for name in pages.Tree(source).files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, to / name)
    subprocess.run(["git", "init", "-q"], cwd=to, check=True)


def main():
    source = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        copy(source, root)
        good = {name: check(pages.Tree(root)) for name, check in pages.CHECKS.items()}
        for check, name, old, new, said in BROKEN:
            file = root / name
            before = file.read_text() if file.exists() else None
            if old is not None and (before is None or old not in before):
                sys.exit(f"FAIL: {check}: {name} has no \"{old}\" to break")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((before or "") + f"\n{new}\n" if old is None else before.replace(old, new, 1))
            found = [line for line in pages.CHECKS[check](pages.Tree(root)) if line not in good[check]]
            if before is None:
                os.remove(file)
                if not any(file.parent.iterdir()):
                    file.parent.rmdir()
            else:
                file.write_text(before)
            if not any(said in line for line in found):
                sys.exit(f"FAIL: {check} does not say \"{said}\" of {name} with {new[:60]}: {found}")
            print(f"ok: {check}: {said}")
        if {check for check, *_ in BROKEN} != set(pages.CHECKS):
            sys.exit(f"FAIL: never seen to fail: {set(pages.CHECKS) - {check for check, *_ in BROKEN}}")
        page = root / "docs/limits.md"
        text = page.read_text()
        for link in ("build",):
            (root / link).symlink_to(source / link)
        for language, block, said in BROKEN_BLOCKS:
            page.write_text(f"```{language}\n{block}\n```\n")
            test = commands_test.Commands(root, sys.argv[2])
            test.tree.pages = ["docs/limits.md"]
            test.all()
            if test.missing:
                print(f"skipped: not built: {', '.join(sorted(test.missing))}")
                sys.exit(77)
            if not any(said in line for line in test.wrong):
                sys.exit(f"FAIL: \"{block}\" is not complained about: {test.wrong}")
            print(f"ok: commands: {said}")
        page.write_text(text)


if __name__ == "__main__":
    main()
