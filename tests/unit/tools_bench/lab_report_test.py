#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lab_report_test.py SOURCE_DIR: verdicts of `lab.sh never-worse` by the interval of the pairs' ratios."""
import json
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(sys.argv[1]) / "tools/bench/lab_report.py"


def judged(ratios, reactions=()):
    """Exit code, verdicts by row and what was printed, of rows with these paired ratios of p99."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for row, p99 in ratios.items():
            ratio = {"p99": p99, "p99_median": sorted(p99)[len(p99) // 2], "p50": [1.0] * len(p99), "p50_median": 1.0}
            arm = {"policy": "ballast", "errors": 0, "requests": 9, "ratios": {"least_request": ratio}, "results": []}
            (folder / f"{row}.json").write_text(json.dumps({"arms": [arm]}))
        if reactions:
            events = [{"reaction_first_s": 0.1, "reaction_s": s} for s in reactions]
            arm = {"policy": "ballast", "ratios": {}, "results": [{"events": events}]}
            (folder / "quota-halved-eds.json").write_text(json.dumps({"arms": [arm]}))
        run = subprocess.run([sys.executable, SCRIPT, folder, "never-worse"], capture_output=True, text=True)
        rows = json.loads((folder / "verdict.json").read_text())
        return run.returncode, {row["row"]: row["verdict"] for row in rows}, run.stdout


code, verdicts, _ = judged({"pool": [0.990, 0.995, 0.992], "slow-downstream": [0.70, 0.72, 0.71]})
assert (code, verdicts) == (0, {"pool": "met", "slow-downstream": "met"}), verdicts
code, verdicts, _ = judged({"pool": [1.20, 1.21, 1.19], "slow-downstream": [0.90, 0.70], "null": [0.90]})
assert verdicts == {"pool": "missed", "slow-downstream": "not shown", "null": "not shown"}, verdicts
assert code == 1, "what is not shown is not met"
code, _, said = judged({"pool": [0.990, 0.995, 0.992]}, reactions=(0.2, 0.29, 0.9))
assert code == 0 and "0.29 s" in said and "met" in said, said
code, _, said = judged({"pool": [0.990, 0.995, 0.992]}, reactions=(0.2, 0.31, 0.9))
assert code == 1 and "missed" in said, said
with tempfile.TemporaryDirectory() as empty:
    nothing = subprocess.run([sys.executable, SCRIPT, empty, "never-worse"], capture_output=True, text=True)
assert nothing.returncode == 2 and "slow-downstream" in nothing.stderr, "what was not run is no target met"
