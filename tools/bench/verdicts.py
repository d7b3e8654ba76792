#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Verdicts by confidence bounds: policies against a baseline over scenarios, loops and paired seeds.

  tools/bench/verdicts.py --policy queue_rule,learned --loop eds,istio --scenario all -o table.csv
  tools/bench/verdicts.py --policy queue_rule,prequal --loop eds --worlds 1..200 -o worlds.csv

A row a scenario, loop and policy: the ratio of p99 (and p50) to the baseline's, geometric mean over
the seeds (the baseline's is of a run without --loop, which matters to one that weighs: compare two such by
their rows over least_request), with its 95 % interval (Student's t on the logs of the paired ratios). The verdict:
  better      the interval lies below 1
  not worse   its upper bound is at most --most (1.02)
  worse       its lower bound is above 1
  not shown   anything else: more seeds are needed, or the policy loses
  censored    most of a side's p99 sit at the deadline: nothing is said, and it is not counted
  tie         not one seed differs: nothing was done, or nothing can be; it is not counted
With --worlds every random world is one paired ratio of one seed and a policy has one row; with --over P
each has a second one, over P in the same loop: the lead of P is theirs, the other way round.
"""
import argparse
import concurrent.futures
import csv
import json
import math
import os
import subprocess
import sys

T95 = [0, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
       2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045]


def interval(logs):
    """Mean, lower and upper bound; of one value the bounds say nothing."""
    n = len(logs)
    mean = sum(logs) / n
    if n < 2:
        return mean, -math.inf, math.inf
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (n - 1) / n)
    t = T95[n - 1] if n - 1 < len(T95) else 1.96
    return mean, mean - t * error, mean + t * error


def run(bench, scenario, policy, loop, seeds):
    command = [bench, "sim", "--scenario", scenario, "--policy", policy, "--seeds", seeds, "-o", "-"]
    if loop:
        command += ["--loop", loop]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return {row["seed"]: row for row in json.loads(done.stdout)}


def censored(row):
    return row["errors"] > 0.01 * row["requests"]


def verdict(ours, theirs, most):
    seeds = sorted(ours)
    if sum(censored(ours[s]) or censored(theirs[s]) for s in seeds) * 2 > len(seeds):
        return "censored", (0, 0, 0), (0, 0, 0)
    p99 = [math.log(ours[s]["p99_ms"] / theirs[s]["p99_ms"]) for s in seeds]
    p50 = [math.log(ours[s]["p50_ms"] / theirs[s]["p50_ms"]) for s in seeds]
    a, b = interval(p99), interval(p50)
    if all(x == 0 for x in p99 + p50):
        word = "tie"
    elif a[2] < 0:
        word = "better"
    elif a[1] > 0:
        word = "worse"
    else:
        word = "not worse" if a[2] <= math.log(most) else "not shown"
    return word, a, b


def listed(bench, wanted):
    if wanted != "all":
        return wanted.split(",")
    done = subprocess.run([bench, "scenarios", "--variants"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/release/bin/ballast-bench")
    parser.add_argument("--policy", required=True, help="P[,P...]")
    parser.add_argument("--baseline", default="least_request")
    parser.add_argument("--loop", default="eds,istio_fast,istio")
    parser.add_argument("--scenario", default="all", help="NAME[:VARIANT][,...] or all")
    parser.add_argument("--worlds", help="A..B: random worlds in place of scenarios")
    parser.add_argument("--over", help="with --worlds: one of the policies, as a second baseline")
    parser.add_argument("--seeds", default="1..5")
    parser.add_argument("--most", type=float, default=1.02)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kept", help="file of the runs so far, by line: a stopped table goes on from there")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    loops, policies = options.loop.split(","), options.policy.split(",")
    if options.worlds:
        first, last = (int(x) for x in options.worlds.split(".."))
        scenarios, seeds = [f"random:{i}" for i in range(first, last + 1)], "1"
    else:
        scenarios, seeds = listed(options.bench, options.scenario), options.seeds

    kept = {}
    if options.kept and os.path.exists(options.kept):
        with open(options.kept) as file:
            for line in file:
                job, rows = json.loads(line)
                kept[tuple(job)] = {row["seed"]: row for row in rows}

    def cell(job):
        if (*job, seeds) not in kept:
            kept[(*job, seeds)] = run(options.bench, *job, seeds)
            if options.kept:
                with open(options.kept, "a") as file:
                    file.write(json.dumps([[*job, seeds], list(kept[(*job, seeds)].values())]) + "\n")
        return kept[(*job, seeds)]

    jobs = [(s, options.baseline, "") for s in scenarios]
    jobs += [(s, p, l) for s in scenarios for l in loops for p in policies]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        rows = dict(zip(jobs, pool.map(cell, jobs)))

    counts = {}
    with open(options.output, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["scenario", "loop", "policy", "baseline", "seeds", "p99_ratio", "p99_low", "p99_high",
                      "p50_ratio", "p50_low", "p50_high", "verdict"])

        def put(scenario, loop, policy, n, word, p99, p50, baseline=options.baseline):
            numbers = ["" if word == "censored" else f"{math.exp(x):.3f}" for x in (*p99, *p50)]
            out.writerow([scenario, loop, policy, baseline, n, *numbers, word])
            counts.setdefault((loop, policy), {}).setdefault(word, []).append(scenario)

        if options.worlds:
            for loop in loops:
                over = [(p, options.baseline, "") for p in policies]
                over += [(p, options.over, loop) for p in policies if options.over and p != options.over]
                for policy, baseline, its_loop in over:
                    pairs = [(rows[s, policy, loop][1], rows[s, baseline, its_loop][1]) for s in scenarios]
                    good = [(a, b) for a, b in pairs if not (censored(a) or censored(b))]
                    word, p99, p50 = verdict({i: a for i, (a, _) in enumerate(good)},
                                             {i: b for i, (_, b) in enumerate(good)}, options.most)
                    put(f"worlds {options.worlds}", loop, policy, len(good), word, p99, p50, baseline)
        else:
            for s in scenarios:
                for loop in loops:
                    for policy in policies:
                        ours = rows[s, policy, loop]
                        put(s, loop, policy, len(ours), *verdict(ours, rows[s, options.baseline, ""], options.most))
    for (loop, policy), words in counts.items():
        print(f"{policy} ({loop}): " + ", ".join(f"{len(v)} {k}" for k, v in sorted(words.items())))
        for word in ("worse", "not shown", "censored", "tie"):
            if words.get(word):
                print(f"  {word}: {', '.join(words[word])}")


if __name__ == "__main__":
    main()
