#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples_test.py NAME BIN: examples/NAME/run for a few seconds. It checks its own figures; what it cannot get is skipped."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What is built from Go modules is built once on a machine; here it may take no longer than this.
done = subprocess.run([ROOT / "examples" / sys.argv[1] / "run", "--seconds", "6", "--bin", sys.argv[2]], check=False,
                      stderr=subprocess.PIPE, text=True, env=dict({"BALLAST_EXAMPLE_BUILD_S": "120"}, **os.environ))
print(done.stderr)
if done.returncode == 3:
    print(f"skipped: {done.stderr.strip().splitlines()[-1]}")
    sys.exit(77)
sys.exit(done.returncode)
