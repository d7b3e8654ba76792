#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Driver of tools/bench/telemetry.sh."""
import argparse
import json
import os
import pathlib
import platform
import resource
import sys
import tempfile
import time

import against
import cost
import counted
import kinds
import lossy
import machine
import plot
import report
import timed

PARTS = ("counted", "kinds", "lossy", "timed", "cost")
AGAINST = "against"  # the part that needs another build
# More than this and the figures are the neighbours' as well.
QUIET_CPUS = 0.15


def arguments():
    parser = argparse.ArgumentParser(prog="telemetry.sh")
    parser.add_argument("--quick", action="store_true", help="fewer rates, 2 pairs of 1 s")
    parser.add_argument("--pairs", type=int, help="agent on and off, interleaved (10)")
    parser.add_argument("--seconds", type=float, help="of each run (4)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, of counted,kinds,lossy,timed,cost")
    parser.add_argument("--against", type=pathlib.Path, metavar="BIN",
                        help="build/release/bin of another checkout: kernel time a request of both, alone")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench/telemetry"))
    parser.add_argument("--bin", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.against and not (options.against / "ballastd").exists():
        parser.error(f"--against: no ballastd in {options.against}")
    options.parts = [AGAINST] if options.against else options.only.split(",")
    if unknown := set(options.parts) - {*PARTS, *([AGAINST] if options.against else [])}:
        parser.error(f"--only: unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    options.pairs = options.pairs or (2 if options.quick else 10)
    options.seconds = options.seconds or (1 if options.quick else 4)
    if options.pairs < 1 or options.seconds <= 0:
        parser.error("--pairs and --seconds have to be above zero")
    return options


def disturbances(bench):
    found = []
    busy = machine.other_load()
    if busy > QUIET_CPUS:
        found.append(f"other processes used {busy:.2f} CPUs")
    if foreign := machine.foreign_programs(bench.root):
        found.append(f"{foreign} cgroup_skb programs of others were attached")
    return found


def say(part):
    def show(row):
        if "pair" in row:
            print("  " + ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        else:
            print("  " + " | ".join(report.line(part, row)), flush=True)
    return show


def measure(bench, options):
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kernel": platform.release(),
        "cpus": os.cpu_count(), "pairs": options.pairs, "seconds": options.seconds,
        "preliminary": disturbances(bench),
    }
    for part in options.parts:
        print(f"{part}:", flush=True)
        if part == "cost":
            result[part] = cost.run(bench, options.pairs, options.seconds, say(part))
            continue
        if part == AGAINST:
            result[part] = against.run(bench, options.against.resolve(), options.pairs, options.seconds, say(part))
            continue
        if bench.agent is None:
            bench.start_agent()
        result[part] = {"counted": counted, "kinds": kinds, "lossy": lossy, "timed": timed}[part].run(bench, options.seconds, options.quick, say(part))
    result["preliminary"] += [d for d in disturbances_after(bench) if d not in result["preliminary"]]
    return result


def disturbances_after(bench):
    bench.stop_agent()
    return [d + " (at the end)" for d in disturbances(bench)]


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with tempfile.TemporaryDirectory(prefix="ballast-bench-") as work:
        bench = machine.Bench(options.bin, work)
        os.chmod(work, 0o755)
        try:
            result = measure(bench, options)
        finally:
            bench.close()
    print("\n" + report.table(result), end="")
    (options.out / "telemetry.json").write_text(json.dumps(result, indent=1) + "\n")
    if result.get("timed"):
        (options.out / "telemetry.svg").write_text(plot.svg(result["timed"], bool(result["preliminary"])))
    print(f"written to {options.out}/")
    return 1 if any(row.get("pass") is False for part in (*PARTS, AGAINST) for row in result.get(part, [])) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except machine.Failed as failure:
        print(f"telemetry: {failure}", file=sys.stderr)
        sys.exit(1)
