#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/test.sh with stand-ins for ctest, the builds and what is fetched: what a whole run does beside its tests, in which
order, what it waits for and what it ends; that each test is run in one part alone; and how a second try is counted."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(sys.argv[1])
TESTS = {"plain_test": "unit", "lab_test": "fault", "mesh_test": "mesh;fetched", "http1": "fuzz"}

# Writes what ctest would: every test of the part passes, but for those in $FAIL_ONCE at their first try.
CTEST = """#!/usr/bin/env python3
import json, os, pathlib, re, sys
tests = json.loads(os.environ["TESTS"])
words = sys.argv[1:]
if "--show-only=json-v1" in words:
    print(json.dumps({"tests": [{"name": name, "properties": [{"name": "LABELS", "value": labels.split(";")}]}
                                for name, labels in tests.items()]}))
    sys.exit()
def given(flag):
    return words[words.index(flag) + 1] if flag in words else None
def found(pattern, labels):
    return any(re.search(pattern, label) for label in labels.split(";"))
chosen = [name for name, labels in tests.items()
          if (not given("--label-regex") or found(given("--label-regex"), labels))
          and (not given("--label-exclude") or not found(given("--label-exclude"), labels))
          and (not given("--tests-regex") or re.search(given("--tests-regex"), name))]
log = pathlib.Path("log")
rows = []
for name in chosen:
    failed = name in os.environ.get("FAIL_ONCE", "").split() and f"run {name}" not in log.read_text()
    with log.open("a") as out:
        out.write(f"run {name} {given('--test-dir')}\\n")
    rows.append(f'<testcase name="{name}" status="{"fail" if failed else "run"}"/>')
pathlib.Path(given("--output-junit")).write_text(f"<testsuite>{''.join(rows)}</testsuite>")
"""
FETCH = """#!/bin/sh
echo $$ >fetching
echo "fetch begins" >>log
until [ -z "$FETCH_UNTIL" ] || grep -q "$FETCH_UNTIL" log; do sleep 0.1; done
echo "fetch ends" >>log
exit ${FETCH_CODE:-0}
"""
# What stands beside the tests does so at the idle class, which on a busy machine would be this test's time-out.
CHRT = """#!/bin/sh
[ "$2" != --pid ] || exit 0
shift 2
exec "$@"
"""
BUILD = """#!/bin/sh
echo "build $*" >>log
case "$*" in asan*) sleep "${ASAN_S:-0}"; exit ${ASAN_CODE:-0} ;; esac
"""


def run(**settings):
    """(exit code, what it said, the log's lines, whether what fetches is still there)"""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for part in ("tools/dev", "bin", "build/release", "build/asan"):
            (root / part).mkdir(parents=True)
        for name in ("tools/test.sh", "tools/dev/count_tests.py"):
            shutil.copy(SOURCE / name, root / name)
        for name, text in {"bin/ctest": CTEST, "bin/chrt": CHRT, "bin/nice": CHRT, "bin/renice": "#!/bin/sh\n",
                           "tools/dev/fetch.sh": FETCH, "tools/build.sh": BUILD,
                           "tools/deps.sh": "#!/bin/sh\n", "log": ""}.items():
            (root / name).write_text(text)
            (root / name).chmod(0o755)

        env = dict(os.environ, PATH=f"{root}/bin:{os.environ['PATH']}", TESTS=json.dumps(TESTS),
                   **{name: str(value) for name, value in settings.items()})
        done = subprocess.run(["tools/test.sh"], cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=250, check=False)
        there = False
        if (root / "fetching").exists():
            there = pathlib.Path("/proc", (root / "fetching").read_text().strip()).exists()
        return done.returncode, done.stdout, (root / "log").read_text().splitlines(), there


def expect(what, holds, told):
    if not holds:
        sys.exit(f"FAIL: {what}: {told}")
    print(f"ok: {what}")


def main():
    code, said, log, _ = run(FETCH_UNTIL="run lab_test")
    expect("a whole run passes", code == 0 and "5 passed, 0 failed, 0 skipped" in said, (code, said, log))
    expect("each test once in its build, unit tests in both", sorted(line for line in log if line.startswith("run")) == sorted(
        ["run plain_test build/asan"] + [f"run {name} build/release" for name in TESTS]), log)
    at = log.index
    expect("what is fetched is there before its tests, and other tests did not wait for it",
           at("run lab_test build/release") < at("fetch ends") < at("run mesh_test build/release"), log)
    expect("the sanitizers' build has begun when all is fetched", at("fetch ends") < at("build asan unit_tests"), log)

    code, said, log, there = run(FETCH_UNTIL="never", BALLAST_MESH_BUILD_S=1)
    expect("what takes too long is ended and the rest runs", code == 0 and not there and
           "not fetched 1 s after" in said and "run mesh_test build/release" in log, (code, said, log, there))

    code, said, log, _ = run(BALLAST_MESH_BUILD_S=0)
    expect("with 0 nothing is fetched", code == 0 and "fetch begins" not in log and "build asan unit_tests" in log, (said, log))

    code, said, log, _ = run(FETCH_CODE=3)
    expect("what cannot be had here fails nothing", code == 0 and "run mesh_test build/release" in log, (code, said))
    code, said, log, _ = run(FETCH_CODE=1)
    expect("what does not build fails the run", code == 1, (code, said))
    code, said, log, _ = run(ASAN_CODE=1)
    expect("the sanitizers' build fails the run", code == 1, (code, said))

    code, said, log, _ = run(ASAN_S=60, BALLAST_SANITIZERS_BY_S=1)
    expect("sanitizers that are built too late, and fuzzing, count as skipped with the reason", code == 0 and
           "3 passed, 0 failed, 2 skipped" in said and "sanitizers skipped: not built 1 s after" in said and
           "skipped: fuzzing (release)" in said, (code, said))

    code, said, log, _ = run(FAIL_ONCE="lab_test mesh_test")
    expect("a second try, of either part, takes the place of the first", code == 0 and "5 passed, 0 failed" in said and
           all(f"passed at the second try alone: {name} (release)" in said for name in ("lab_test", "mesh_test")), (code, said))
    code, said, log, _ = run(FAIL_ONCE="plain_test")
    expect("unit tests have one try", code == 1 and "FAILED: plain_test" in said, (code, said))


main()
