#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/bench/telemetry.sh's driver in small: bench_test.py BIN.

Every case that the agent measures counts to the last request, latency is compared at every load,
and the files are written. What a loaded machine cannot promise (rates,
costs, errors of quantiles) is not asserted. Exit code 77: this process may not measure.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

SOURCE = pathlib.Path(__file__).resolve().parents[3]


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def main():
    if os.geteuid() != 0:
        print("SKIPPED: needs root (cgroups, namespaces, eBPF)")
        return 77
    driver = [sys.executable, str(SOURCE / "tools/bench/telemetry/run.py"), "--bin", sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="ballast-bench-test-") as out:
        run = subprocess.run([*driver, "--quick", "--seconds", "0.2", "--only", "counted,kinds,timed", "--out", out],
                             capture_output=True, text=True)
        if "ballastd ended with 3" in run.stderr:
            print(f"SKIPPED: {run.stderr.strip()}")
            return 77
        # 1 is a verdict on a target: quantiles of so few requests may miss theirs.
        check(run.returncode in (0, 1) and (pathlib.Path(out) / "telemetry.json").exists(), run.stdout + run.stderr)
        result = json.loads((pathlib.Path(out) / "telemetry.json").read_text())
        measured = [row for row in result["counted"] if not row.get("not_supported")]
        check(len(measured) >= 12, f"12 cases of HTTP/1.1, had {len(measured)}")
        for row in measured:
            check(row["client_answered"] > 0 and row["kernel_responses"] == row["client_answered"] and
                  row["kernel_requests"] == row["client_sent"] and row["in_flight_after"] == 0, f"counts differ: {row}")
        check(len(result["kinds"]) == 8 and all(row["pass"] for row in result["kinds"]), result["kinds"])
        check(len(result["timed"]) == 3 and all(r["counted"] == 1 for r in result["timed"]), result["timed"])
        xml.parse(pathlib.Path(out) / "telemetry.svg")
    check(subprocess.run([*driver, "--only", "weather"], capture_output=True).returncode == 2, "an unknown part is refused")
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
