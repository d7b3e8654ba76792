#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges the reports of tools/bench/lab.sh: lab_report.py DIR [demo|never-worse].

Reads DIR/ROW.json, prints one line a target and writes DIR/verdict.json. demo: by the median of the paired
ratios of p99; every report has to be there. never-worse: by the 95 % interval of their geometric mean (Student's
t on the logs); a row without a report is not run. Its verdicts:
  met         the whole interval is at most the target
  missed      the whole interval is above it
  not shown   anything else: more pairs are needed, or the target is missed
Exit code 0 when every target that was run is met, 1 when one is not, 2 when a report is not there.
"""
import json
import math
import pathlib
import statistics
import sys

from verdicts import interval

# row, policy compared with, most that the paired ratio of p99 may be
TARGETS = {
    "demo": [
        ("demo", "least_request", 0.60),
        ("demo-85", "least_request", 0.35),
        ("demo", "capacity_oracle", 1.15),
        ("demo-85", "capacity_oracle", 1.15),
        ("null", "least_request", 1.00),
    ],
    # Of unequal pods and of equal ones: what was measured before (docs/benchmarks.md).
    "never-worse": [
        ("io-limits-56", "least_request", 1.02),
        ("io-limits-72", "least_request", 1.02),
        ("single-thread", "least_request", 1.02),
        ("pool", "least_request", 1.02),
        ("slow-downstream", "least_request", 0.80),
        ("unequal-50", "least_request", 0.35),
        ("unequal-70", "least_request", 0.42),
        ("unequal-85", "least_request", 0.18),
        ("null", "least_request", 0.93),
        ("moving", "least_request", 0.35),
    ],
}
# row, most seconds from the event until the weight is within 10 % of its end, in the median
REACTIONS = {"demo": ("quota-halved", None), "never-worse": ("quota-halved-eds", 0.30)}


def ballast_arm(folder, row):
    report = json.loads((folder / f"{row}.json").read_text())
    return next(arm for arm in report["arms"] if arm["policy"] == "ballast")


def bounds(ratios):
    return [math.exp(x) for x in interval([math.log(ratio) for ratio in ratios])]


def judge(folder, table):
    rows = []
    for name, other, most in TARGETS[table]:
        if table != "demo" and not (folder / f"{name}.json").exists():
            continue
        arm = ballast_arm(folder, name)
        ratios = arm["ratios"][other]
        mean, low, high = bounds(ratios["p99"])
        if table == "demo":
            verdict = "met" if ratios["p99_median"] <= most else "missed"
        else:
            verdict = "met" if high <= most else "missed" if low > most else "not shown"
        rows.append({
            "row": name,
            "against": other,
            "p99_ratio": mean,
            "p99_low": low,
            "p99_high": high,
            "p99_ratio_median": ratios["p99_median"],
            "p99_ratios": ratios["p99"],
            "p50_ratio": bounds(ratios["p50"])[0],
            "errors": arm["errors"],
            "requests": arm["requests"],
            "target": most,
            "verdict": verdict,
        })
    return rows


def report_ratios(rows):
    print(f"\n{'row':<16} {'against':<15} {'p99 ratio':>9} {'95 % interval':>15} {'median':>6} {'target':>6} "
          f"{'p50':>5} {'failed':>7}  {'verdict':<9} each pair")
    for row in rows:
        between = f"[{row['p99_low']:.3f}, {min(row['p99_high'], 999):.3f}]" if row["p99_low"] > 0 else "one pair"
        print(f"{row['row']:<16} {row['against']:<15} {row['p99_ratio']:>9.3f} {between:>15} "
              f"{row['p99_ratio_median']:>6.3f} {row['target']:>6.2f} {row['p50_ratio']:>5.2f} {row['errors']:>7}  "
              f"{row['verdict']:<9} {' '.join(f'{ratio:.3f}' for ratio in row['p99_ratios'])}")


def report_reaction(folder, name, most):
    """Whether the target is met; None where nothing is asked or nothing was run."""
    if not (folder / f"{name}.json").exists():
        return None
    events = [event for run in ballast_arm(folder, name)["results"] for event in run["events"]
              if event["reaction_first_s"] is not None and event["reaction_s"] is not None]
    if not events:
        print(f"{name}: the weight did not move")
        return most is None
    first, done = ([event[key] for event in events] for key in ("reaction_first_s", "reaction_s"))
    settled = statistics.median(done)
    met = most is None or settled <= most
    print(f"{name}: the weight in Envoy moved after {statistics.median(first):.2f} s "
          f"({', '.join(f'{s:.2f}' for s in first)}) and was within 10 % of its end after "
          f"{settled:.2f} s ({', '.join(f'{s:.2f}' for s in done)})"
          + ("" if most is None else f"; target {most:.2f} s, {'met' if met else 'missed'}"))
    return met


def report_costs(folder):
    for name in ("demo", "demo-85", "null"):
        for run in ballast_arm(folder, name)["results"]:
            for use in run["processes"]:
                if use["process"] == "ballastd":
                    settled = run["convergence_s"]
                    print(f"{name} round {run['round']}: ballastd {use['rss_peak_mb']:.1f} MB, "
                          f"{use['millicores']:.1f} millicores; split settled "
                          f"{'never' if settled is None else f'{settled:.2f} s'} after its start")


def main():
    table = sys.argv[2] if len(sys.argv) == 3 else "demo"
    if len(sys.argv) not in (2, 3) or table not in TARGETS:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    try:
        rows = judge(folder, table)
        name, most = REACTIONS[table]
        if not rows and not (folder / f"{name}.json").exists():
            print(f"lab_report: {folder}: nothing was run; rows: "
                  f"{', '.join([row for row, *_ in TARGETS[table]] + [name])}", file=sys.stderr)
            return 2
        report_ratios(rows)
        if table == "demo":
            report_costs(folder)
        followed = report_reaction(folder, name, most)
    except (OSError, StopIteration, KeyError, ValueError) as error:
        print(f"lab_report: {folder}: no whole set of reports: {error!r}", file=sys.stderr)
        return 2
    (folder / "verdict.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(f"verdict: {folder / 'verdict.json'}")
    return 0 if all(row["verdict"] == "met" for row in rows) and followed is not False else 1


if __name__ == "__main__":
    sys.exit(main())
