#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast an old habit is forgotten and a new one learned, over a day of one cluster (day.yaml).

    tools/bench/proof/day.py [--bin DIR] [-o day.csv]

Writes p50 and p99 of every minute under queue_rule and forecast_rule. Prints, for each of the three habits, p99 of
forecast_rule over queue_rule: in the last hour, in each of the first minutes after the change, and the first minute
from which on the ratio of the five minutes that begin there is within a tenth of the last hour's.
"""
import argparse
import csv
import math
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parents[2] / "build/release/bin")
    parser.add_argument("--scenario", default=str(HERE / "day.yaml"))
    parser.add_argument("-o", "--output", default=str(HERE / "day.csv"))
    args = parser.parse_args()
    subprocess.run([args.bin / "ballast-bench", "life", "--scenario", args.scenario, "--policy",
                    "queue_rule,forecast_rule", "-o", args.output], check=True)
    with open(args.output, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    p99 = {(r["policy"], int(r["minute"])): float(r["p99_ms"]) for r in rows}
    last = max(minute for _, minute in p99)
    ratio = [p99["forecast_rule", m] / p99["queue_rule", m] for m in range(1, last + 1)
             if ("forecast_rule", m) in p99 and ("queue_rule", m) in p99]
    third = len(ratio) // 3
    for habit in range(3):
        own = ratio[habit * third:(habit + 1) * third]
        settled = mean(own[-60:])
        learned = next(m for m in range(len(own)) if mean(own[m:m + 5]) <= 1.1 * settled)
        print(f"habit {habit + 1}: last hour {settled:.3f}; first minutes "
              + " ".join(f"{x:.2f}" for x in own[:10]) + f"; within a tenth of it from minute {learned + 1} on")


if __name__ == "__main__":
    main()
