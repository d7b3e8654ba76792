#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ten minutes of a service's own recording are worth in its twin.

    tools/bench/proof/twin.py [--policy queue_rule,...] [--scenario bouts.yaml,...] [--seeds 1..10] [--updates N]
                              [--fit] [--bin DIR] [-o FILE.csv]

A seed: ten minutes are recorded under the policy, with the shipped parameters where it forecasts (`ballast-bench
record`), the twin learns gains from them as the twin of a node does (`ballast-learner --twin`), and what passes its
door acts in the same service on other traces (`ballast-bench sim`) beside the policy before. With --fit the forecast
goes on being fitted to the recording as well, which a node's twin leaves to the workers of the forecast. Prints the
geometric mean of the paired ratios with its 95 % interval (Student's).
"""
import argparse
import csv
import importlib.util
import json
import math
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCENARIOS = ",".join(f"{HERE}/bouts.yaml{v}" for v in ("", ":loose", ":two", ":none"))


def interval(ratios):
    spec = importlib.util.spec_from_file_location("verdicts", HERE.parent / "verdicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [math.exp(x) for x in module.interval([math.log(r) for r in ratios])]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def sim(bin_folder, scenario, policy, seed, *more):
    out = run(bin_folder / "ballast-bench", "sim", "--scenario", scenario, "--policy", policy, "--loop", "istio",
              "--seeds", seed, "-o", "-", *more)
    return json.loads(out)[0]


def one(args, scenario, policy, seed):
    """A row, and what the learner said of the twin."""
    with tempfile.TemporaryDirectory() as folder:
        recording, gains, theta = (pathlib.Path(folder, f) for f in ("recording", "gains.json", "forecast.bin"))
        run(args.bin / "ballast-bench", "record", "--scenario", scenario, "--policy", policy, "--seconds", 600, "--seed",
            seed, "-o", recording)
        fit = ["--fit-out", theta] if args.fit else []
        said = run(args.bin / "ballast-learner", "--twin", recording, "--gains-out", gains, "--fit-seed", seed,
                   "--twin-updates", args.updates, *fit)
        before = sim(args.bin, scenario, policy, 5000 + seed)
        after = sim(args.bin, scenario, policy, 5000 + seed, "--gains", gains,
                    *(["--parameters", theta] if theta.exists() else []))
        learned = next(iter(json.loads(gains.read_text())["services"].values()), {})
    row = {"scenario": scenario.rsplit("/", 1)[-1], "policy": policy, "fit": int(args.fit), "seed": seed,
           "p99_ratio": after["p99_ms"] / before["p99_ms"], "p50_ratio": after["p50_ms"] / before["p50_ms"],
           "p99_before_ms": before["p99_ms"], "gains_taken": int(bool(learned)),
           **{f"gain_{k}": round(v, 3) for k, v in learned.items()}}
    return row, [line.split("] ")[-1] for line in said.splitlines() if "twin of" in line]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default=SCENARIOS)
    parser.add_argument("--policy", default="queue_rule")
    parser.add_argument("--seeds", default="1..10")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parents[2] / "build/release/bin")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    first, last = (int(x) for x in args.seeds.split(".."))
    rows = []
    for scenario, policy in ((s, p) for s in args.scenario.split(",") for p in args.policy.split(",")):
        ours = []
        for seed in range(first, last + 1):
            row, said = one(args, scenario, policy, seed)
            ours.append(row)
            print(json.dumps(row), *said, sep="\n    ", flush=True)
        rows += ours
        for figure in ("p99_ratio", "p50_ratio"):
            print(ours[0]["scenario"], policy, figure,
                  "{:.3f} [{:.3f}, {:.3f}]".format(*interval([r[figure] for r in ours])), flush=True)
        if args.output:
            keys = list(dict.fromkeys(k for r in rows for k in r))
            with open(args.output, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, keys, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
