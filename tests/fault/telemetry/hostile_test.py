#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hostile_test.py BIN: tools/bench/hostile at a size that takes seconds. Exit code 77: this process may not measure."""
import json
import pathlib
import subprocess
import sys
import tempfile

TOOL = pathlib.Path(__file__).resolve().parents[3] / "tools/bench/hostile"


def run(attack, scale, out):
    done = subprocess.run([sys.executable, TOOL, "--bin", sys.argv[1], "--only", attack, "--scale", str(scale), "--json", out],
                          capture_output=True, text=True)
    print(done.stdout, done.stderr, sep="")
    return done.returncode


def main():
    with tempfile.TemporaryDirectory(prefix="ballast-hostile-test-") as work:
        out = pathlib.Path(work) / "rows.json"
        for attack, scale in (("idle", 0.04), ("cgroups", 0.005), ("syn", 0.005), ("edges", 0.45)):
            if (code := run(attack, scale, out)) != 0:
                return code
            row = json.loads(out.read_text())[0]
            if attack in ("idle", "edges") and not row["named"]:
                sys.exit(f"FAILED: nobody is named for {attack}: {row}")
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
