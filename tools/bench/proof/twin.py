#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ten minutes of a service's own recording are worth in its twin.

    tools/bench/proof/twin.py [--scenario bouts.yaml,...] [--seeds 1..10] [--updates N] [--bin DIR] [-o FILE.csv]

A seed: ten minutes are recorded under forecast_rule with the shipped parameters (`ballast-bench record`), the twin
learns from them (`ballast-learner --twin`), and what it gives acts in the same service on other traces
(`ballast-bench sim`) beside the parameters before. Prints the geometric mean of the paired ratios with its 95 %
interval (Student's).
"""
import argparse
import csv
import json
import math
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
STUDENT = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def sim(bin_folder, scenario, seed, *more):
    out = run(bin_folder / "ballast-bench", "sim", "--scenario", scenario, "--policy", "forecast_rule", "--loop", "istio",
              "--seeds", seed, "-o", "-", *more)
    return json.loads(out)[0]


def interval(ratios):
    logs = [math.log(r) for r in ratios]
    mean = sum(logs) / len(logs)
    if len(logs) < 2:
        return math.exp(mean), 0, math.inf
    wide = STUDENT[min(len(logs) - 2, len(STUDENT) - 1)] * math.sqrt(
        sum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
    return tuple(math.exp(x) for x in (mean, mean - wide, mean + wide))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default=f"{HERE}/bouts.yaml,{HERE}/bouts.yaml:loose,{HERE}/bouts.yaml:two,{HERE}/bouts.yaml:none")
    parser.add_argument("--seeds", default="1..10")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parents[2] / "build/release/bin")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    first, last = (int(x) for x in args.seeds.split(".."))
    rows = []
    for scenario in args.scenario.split(","):
        name = scenario.rsplit("/", 1)[-1]
        for seed in range(first, last + 1):
            with tempfile.TemporaryDirectory() as folder:
                recording, gains, theta = (pathlib.Path(folder, f) for f in ("recording", "gains.json", "forecast.bin"))
                run(args.bin / "ballast-bench", "record", "--scenario", scenario, "--seconds", 600, "--seed", seed,
                    "-o", recording)
                said = run(args.bin / "ballast-learner", "--twin", recording, "--gains-out", gains, "--fit-out", theta,
                           "--fit-seed", seed, "--twin-updates", args.updates)
                before = sim(args.bin, scenario, 5000 + seed)
                after = sim(args.bin, scenario, 5000 + seed, "--gains", gains, "--parameters", theta)
                learned = json.loads(gains.read_text())["services"]
            row = {"scenario": name, "seed": seed, "p99_ratio": after["p99_ms"] / before["p99_ms"],
                   "p50_ratio": after["p50_ms"] / before["p50_ms"], "p99_before_ms": before["p99_ms"],
                   "forecast_taken": int("forecast: " in said and ": taken" in said.split("forecast: ")[1].split("\n")[0]),
                   **{f"gain_{k}": round(v, 3) for k, v in next(iter(learned.values()), {}).items()}}
            rows.append(row)
            print(json.dumps(row), flush=True)
            for line in said.splitlines():
                if "twin of" in line:
                    print("   ", line.split("] ")[-1], flush=True)
        ours = [r for r in rows if r["scenario"] == name]
        for figure in ("p99_ratio", "p50_ratio"):
            print(name, figure, "{:.3f} [{:.3f}, {:.3f}]".format(*interval([r[figure] for r in ours])), flush=True)
        if args.output:
            keys = list(dict.fromkeys(k for r in rows for k in r))
            with open(args.output, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, keys, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
