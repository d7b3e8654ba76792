#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tunes the six learners of figure 3, each by four trials, with a seed that the figure does not use.

  tools/bench/trials.py [--steps 20000] [--world tools/bench/lab.yaml] [--kept DIR] [-o trials.csv]

A row a trial: the mean return of eight episodes that no look while learning saw, by the last parameters; the last
column marks each learner's best. `ballast-bench figures --trials` takes them. Trials that DIR holds are not run again.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATES = [(rate, 0) for rate in ("0.0003", "0.001", "0.003", "0.01")]
# Rate and horizon (0: as tuned elsewhere); how often to step matters as much where the horizon says it.
TRIALS = {"q_learning": RATES, "dqn": RATES, "pg": RATES, "ppo": RATES,
          "a2c": [("0.001", 5), ("0.003", 5), ("0.001", 32), ("0.003", 32)],
          "a3c": [("0.0003", 5), ("0.001", 5), ("0.0003", 20), ("0.001", 20)]}
DISCOUNT = "0.9"


def trial(given, learner, rate, horizon):
    folder = pathlib.Path(given.kept) / f"{learner}-{given.world.replace('/', '_')}-{rate}-{horizon}-{given.steps}-{given.seed}"
    done = folder / "summary.json"
    if not done.exists():
        command = ["nice", "-n", "15", given.bench, "train", "--learner", learner, "--env", "queue", "--scenario",
                   given.world, "--seed", given.seed, "--steps", given.steps, "--learning-rate", rate, "--gamma",
                   DISCOUNT, "--horizon", horizon, "--evaluate-every", given.steps, "--episodes", "1",
                   "--final-episodes", "8", "--out", folder]
        ended = subprocess.run([str(each) for each in command], capture_output=True, text=True, cwd=ROOT)
        if ended.returncode != 0:
            sys.exit(f"{learner} in {given.world}: {ended.stderr.strip()}")
    return json.loads(done.read_text())["last_return"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--world", default="tools/bench/lab.yaml")
    parser.add_argument("--kept", default=str(ROOT / "build/trials"))
    parser.add_argument("--bench", default=str(ROOT / "build/release/bin/ballast-bench"))
    parser.add_argument("-o", "--out", default="-")
    given = parser.parse_args()
    out = sys.stdout if given.out == "-" else open(given.out, "w", newline="", encoding="utf-8")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["learner", "learning_rate", "horizon", "gamma", "world", "steps", "seed", "return", "chosen"])
    for learner, trials in TRIALS.items():
        returns = [trial(given, learner, rate, horizon) for rate, horizon in trials]
        for (rate, horizon), value in zip(trials, returns):
            table.writerow([learner, rate, horizon or "", DISCOUNT, given.world, given.steps, given.seed,
                            f"{value:.2f}", "yes" if value == max(returns) else ""])
        out.flush()


if __name__ == "__main__":
    main()
