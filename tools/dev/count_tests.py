#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sums what ctest and GoogleTest wrote under a folder; prints the closing line of tools/test.sh.

Each GoogleTest program is counted by its cases, any other ctest entry as one. A program that
failed without naming a failed case (crash, time-out) counts as one failure. Exit code 1 when
anything failed or nothing ran. A folder is PRESET or PRESET-PART. What a folder of it with -again
behind has stands in the place of the rest, and is named where it passed at that second try alone.

count_tests.py --failed RESULTS BUILD LABELS: the names of the tests of one folder that failed and
have a label that the pattern LABELS finds.
"""
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as xml


def count_gtest(path):
    passed = failed = skipped = 0
    failures = []
    for suite in json.loads(path.read_text())["testsuites"]:
        for case in suite["testsuite"]:
            if case.get("status") == "NOTRUN":
                continue
            if case.get("failures"):
                failed += 1
                failures.append(f'{suite["name"]}.{case["name"]}')
            elif case.get("result") == "SKIPPED":
                skipped += 1
                print(f'skipped: {suite["name"]}.{case["name"]}')
            else:
                passed += 1
    return passed, failed, skipped, failures


def failed_of(results, build, labels):
    known = json.loads(subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, capture_output=True, check=True).stdout)
    of = {test["name"]: next((p["value"] for p in test["properties"] if p["name"] == "LABELS"), [])
          for test in known["tests"]}
    cases = xml.parse(pathlib.Path(results) / "ctest.xml").getroot().iter("testcase")
    return [case.get("name") for case in cases if case.get("status") == "fail"
            and any(re.search(labels, label) for label in of.get(case.get("name"), []))]


def main():
    if sys.argv[1] == "--failed":
        print(*failed_of(*sys.argv[2:]))
        return 0
    ran = {}  # (preset, name) to the last report of it
    for report in sorted(pathlib.Path(sys.argv[1]).glob("*/ctest.xml"),
                         key=lambda path: (path.parent.name.endswith("-again"), path)):
        preset = report.parent.name.split("-")[0]
        for case in xml.parse(report).getroot().iter("testcase"):
            if (preset, case.get("name")) in ran and case.get("status") != "fail":
                print(f'passed at the second try alone: {case.get("name")} ({preset})')
            ran[preset, case.get("name")] = (report, case)
    totals = [0, 0, 0]
    for (preset, name), (report, case) in ran.items():
        status = case.get("status")
        cases = report.parent / "gtest" / f"{name}.json"
        passed = failed = skipped = 0
        failures = []
        if cases.exists():
            try:
                passed, failed, skipped, failures = count_gtest(cases)
            except (json.JSONDecodeError, KeyError):
                failures = []
        ended_badly = status == "fail"
        if not cases.exists() and not ended_badly:
            if status == "run":
                passed = 1
            else:
                skipped = 1
                print(f"skipped: {name} ({preset})")
        if ended_badly and failed == 0:
            failed = 1
            failures = [f"{name} (ended without a verdict)"]
        for failure in failures:
            print(f"FAILED: {failure} ({preset})")
        totals = [a + b for a, b in zip(totals, (passed, failed, skipped))]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
