#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""soak_test.py BIN: the schedule and the judge of tests/soak/run, and its short form through the real lab."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.argv[1]).resolve()
loader = importlib.machinery.SourceFileLoader("soak", str(ROOT / "tests/soak/run"))
soak = importlib.util.module_from_spec(importlib.util.spec_from_loader("soak", loader))
loader.exec_module(soak)

# The same seed gives the same schedule, another seed another; every class is there, and it scales to a day.
assert soak.schedule(1, 60) == soak.schedule(1, 60) != soak.schedule(2, 60)
for seconds in (60, 24 * 3600):
    events, outside, classes = soak.schedule(5, seconds)
    assert classes == sorted(soak.CLASSES) and len(outside) >= 6 and events[-1]["at_s"] < seconds
assert len(events) > 1500


def run(failed=0, **other):
    pods = [{"requests_total": 1000, "kernel": {"requests_total": other.pop("kernel", 1000)}}]
    envoy = {"downstream": 1002, "upstream": 1000, "without_pod": 2, "cut_off": 3, **other.pop("envoy", {})}
    return {"failed": failed, "unfinished": 0, "requests": 1000, "sent_total": 1002, "pods": pods, "envoy": envoy,
            "events": [{"done": True, "kill_pod": "web-1"}], **other}


def verdicts(ballast, memory, done=("hold learner",), classes=("kill_pod", "hold learner")):
    seen = types.SimpleNamespace(memory=memory, done=list(done), seen=set(soak.PROCESSES))
    return {name: good for name, good, _ in soak.judge(ballast, run(2), seen, list(classes))}


# Each line of the SLO can break, alone.
level = {("ballastd", 1): [(t, 20.0) for t in range(100)]}
growing = {("ballastd", 1): [(t, 20.0 + t) for t in range(100)]}
assert all(verdicts(run(2), level).values())
assert verdicts(run(50), level) == {"failures": False, "memory": True, "counters": True, "faults": True}
assert verdicts(run(2), growing) == {"failures": True, "memory": False, "counters": True, "faults": True}
# What Envoy knows of a request that was cut off or found no pod may be missing further on, and nothing else.
assert all(verdicts(run(2, kernel=997), level).values())
for short in (run(50, kernel=996), run(50, kernel=1001), run(50, sent_total=1003), run(50, envoy={"without_pod": 1})):
    assert not verdicts(short, level)["counters"], short
assert verdicts(run(0, kernel=990), level) == {"failures": True, "memory": True, "counters": False, "faults": True}
assert verdicts(run(2), level, done=()) == {"failures": True, "memory": True, "counters": True, "faults": False}

if os.geteuid() != 0:
    print("skipped: the lab needs root")
    sys.exit(77)
if not (BIN / "ballast-learner").exists():
    print("skipped: no ballast-learner in this build")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    # A minute says nothing of memory over hours, and a busy machine may break the SLO: what has to hold here is that the
    # run comes to its page and that the counters are exact.
    code = subprocess.run([ROOT / "tests/soak/run", "--hours", "0.0167", "--seed", "3", "--load", "0.15", "--out", folder, "--bin", BIN],
                          check=False).returncode
    assert code in (0, 1), code
    told = {row["name"]: row for row in json.loads(pathlib.Path(folder, "soak.json").read_text())["slo"]}
    assert set(told) == {"failures", "memory", "counters", "faults"}, told
    assert told["counters"]["held"], told["counters"]
    assert "<svg" in pathlib.Path(folder, "soak.html").read_text()
