#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges the reports of tools/bench/lab.sh: lab_report.py DIR.

Reads DIR/{demo,demo-85,null,quota-halved}.json, prints one line a target and writes DIR/verdict.json.
Exit code 0 when every target is met, 1 when one is missed, 2 when a report is not there.
"""
import json
import pathlib
import statistics
import sys

# scenario, policy compared with, most that the median paired ratio of p99 may be
TARGETS = [
    ("demo", "least_request", 0.60),
    ("demo-85", "least_request", 0.35),
    ("demo", "capacity_oracle", 1.15),
    ("demo-85", "capacity_oracle", 1.15),
    ("null", "least_request", 1.00),
]


def ballast_arm(folder, scenario):
    report = json.loads((folder / f"{scenario}.json").read_text())
    return next(arm for arm in report["arms"] if arm["policy"] == "ballast")


def judge(folder):
    rows = []
    for scenario, other, most in TARGETS:
        ratios = ballast_arm(folder, scenario)["ratios"][other]
        rows.append({
            "scenario": scenario,
            "against": other,
            "p99_ratio_median": ratios["p99_median"],
            "p99_ratios": ratios["p99"],
            "p50_ratio_median": ratios["p50_median"],
            "target": most,
            "pass": bool(ratios["p99"]) and ratios["p99_median"] <= most,
        })
    return rows


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    try:
        rows = judge(folder)
    except (OSError, StopIteration, KeyError, ValueError) as error:
        print(f"lab_report: {folder}: no whole set of reports: {error!r}", file=sys.stderr)
        return 2
    print(f"\n{'scenario':<10} {'against':<16} {'p99 ratio':>9} {'target':>7} {'':<5} each pair")
    for row in rows:
        pairs = " ".join(f"{ratio:.2f}" for ratio in row["p99_ratios"])
        print(f"{row['scenario']:<10} {row['against']:<16} {row['p99_ratio_median']:>9.2f} "
              f"{row['target']:>7.2f} {'pass' if row['pass'] else 'MISS':<5} {pairs}")
    for scenario in ("demo", "demo-85", "null"):
        for run in ballast_arm(folder, scenario)["results"]:
            for use in run["processes"]:
                if use["process"] == "ballastd":
                    settled = run["convergence_s"]
                    print(f"{scenario} round {run['round']}: ballastd {use['rss_peak_mb']:.1f} MB, "
                          f"{use['millicores']:.1f} millicores; split settled "
                          f"{'never' if settled is None else f'{settled:.2f} s'} after its start")
    reactions = [event["reaction_first_s"] for run in ballast_arm(folder, "quota-halved")["results"]
                 for event in run["events"] if event["reaction_first_s"] is not None]
    done = [event["reaction_s"] for run in ballast_arm(folder, "quota-halved")["results"]
            for event in run["events"] if event["reaction_s"] is not None]
    if reactions:
        print(f"quota halved: the weight in Envoy moved after {statistics.median(reactions):.2f} s "
              f"({', '.join(f'{s:.2f}' for s in reactions)}) and was within 10 % of its end after "
              f"{statistics.median(done):.2f} s ({', '.join(f'{s:.2f}' for s in done)})")
    else:
        print("quota halved: the weight did not move")
    (folder / "verdict.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(f"verdict: {folder / 'verdict.json'}")
    return 0 if all(row["pass"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
