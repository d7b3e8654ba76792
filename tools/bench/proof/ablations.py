#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of what is learned is worth, in the simulator.

  tools/bench/proof/ablations.py [--seeds 2001..2010] [--loop istio] [--bench FILE] [-o table.csv]

p99 over that of the whole, geometric mean over paired seeds with its 95 % interval: above 1 the part is worth
something. `without forecast` is queue_rule; `without memory` is the shipped network whose guesses from a period
ago are never believed, so that the mean alone is left; `without judgement` acts on forecasts whether they came
true or not, which is what adapts on the node in the simulator.

  tools/bench/proof/ablations.py --twin [--seeds 1..10] [--updates 20] [--bench FILE] [-o table.csv]

The same of ten minutes in the twin, in services that nothing was trained on: the whole is what `twin.py --policy
forecast_rule --fit` judges;
`without twin` acts as shipped, `without A3C` learns the forecast there and no gains, `without baseline` leaves the
mean of a trace's other replays in the advantage, `without forecast's fit` learns the gains alone. Own exploration of
each worker is an arm of tools/bench/ablations.sh.
"""
import argparse
import csv
import importlib.util
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCENARIOS = "cron5,cron20,cron60,node30,cron20:aperiodic,node30:aperiodic"
# Of core/spec/forecast.h.
HIDDEN, GUESSES, MEAN = 32, 5, 0
HEADER = 16


def sibling(file):
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, ROOT / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_memory(shipped):
    """The file with the output rows of all guesses but the mean at 0."""
    body = bytearray(shipped[:-4])
    last = len(body) - 4 * (GUESSES * HIDDEN + GUESSES)
    for guess in range(GUESSES):
        if guess != MEAN:
            row = last + 4 * HIDDEN * guess
            body[row:row + 4 * HIDDEN] = bytes(4 * HIDDEN)
            bias = last + 4 * (GUESSES * HIDDEN + guess)
            body[bias:bias + 4] = bytes(4)
    return bytes(body) + struct.pack("<I", zlib.crc32(bytes(body)))


def run(bench, scenario, policy, loop, seeds, parameters=None):
    command = ["nice", "-n", "15", bench, "sim", "--scenario", scenario, "--policy", policy, "--seeds", seeds,
               "--loop", loop, "-o", "-"]
    if parameters:
        command += ["--parameters", parameters]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return {row["seed"]: row["p99_ms"] for row in json.loads(done.stdout)}


TWIN_ARMS = [("without twin", None), ("without A3C", ["--twin-updates", "0"]),
             ("without baseline", ["--twin-without", "baseline"]),
             ("without forecast's fit", ["--twin-without", "forecast"])]


def twin_ablations(given, table, interval):
    """One recording a seed, learned from by each arm, judged on the same other trace."""
    twin = sibling("tools/bench/proof/twin.py")
    bin_folder = pathlib.Path(given.bench).resolve().parent
    first, last = (int(x) for x in given.seeds.split(".."))
    for scenario in given.scenario.split(","):
        ratios = {name: [] for name, _ in TWIN_ARMS}
        for seed in range(first, last + 1):
            with tempfile.TemporaryDirectory() as folder:
                recording = pathlib.Path(folder, "recording")
                twin.run(given.bench, "record", "--scenario", scenario, "--policy", "forecast_rule", "--seconds", 600,
                         "--seed", seed, "-o", recording)

                def p99(flags):
                    more = []
                    if flags is not None:
                        gains, theta = pathlib.Path(folder, "gains.json"), pathlib.Path(folder, "forecast.bin")
                        theta.unlink(missing_ok=True)
                        updates = [] if "--twin-updates" in flags else ["--twin-updates", given.updates]
                        twin.run("nice", "-n", 15, bin_folder / "ballast-learner", "--twin", recording, "--gains-out",
                                 gains, "--fit-out", theta, "--fit-seed", seed, *updates, *flags)
                        more = ["--gains", gains] + (["--parameters", theta] if theta.exists() else [])
                    return twin.sim(bin_folder, scenario, "forecast_rule", 5000 + seed, *more)["p99_ms"]

                whole = p99([])
                for name, flags in TWIN_ARMS:
                    ratios[name].append(math.log(p99(flags) / whole))
            print(seed, {name: f"{math.exp(values[-1]):.3f}" for name, values in ratios.items()}, file=sys.stderr,
                  flush=True)
        for name, values in ratios.items():
            mean, lower, upper = (math.exp(x) for x in interval(values))
            table.writerow([pathlib.Path(scenario).name, "istio", name, len(values)] +
                           [f"{x:.3f}" for x in (mean, lower, upper)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twin", action="store_true")
    parser.add_argument("--seeds")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--loop", default="istio")
    parser.add_argument("--scenario")
    parser.add_argument("--bench", default=str(ROOT / "build/release/bin/ballast-bench"))
    parser.add_argument("-o", "--out", default="-")
    given = parser.parse_args()
    given.seeds = given.seeds or ("1..10" if given.twin else "2001..2010")
    given.scenario = given.scenario or (str(ROOT / "tools/bench/proof/bouts.yaml") if given.twin else SCENARIOS)
    interval = sibling("tools/bench/verdicts.py").interval
    out = sys.stdout if given.out == "-" else open(given.out, "w", newline="", encoding="utf-8")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["scenario", "loop", "arm", "seeds", "p99", "lower", "upper"])
    if given.twin:
        twin_ablations(given, table, interval)
        return
    with tempfile.TemporaryDirectory() as folder:
        blind = pathlib.Path(folder) / "without-memory.bin"
        blind.write_bytes(without_memory((ROOT / "model/policy/forecast.bin").read_bytes()))
        arms = [("without forecast", "queue_rule", None), ("without memory", "forecast_rule", str(blind)),
                ("without judgement", "forecast_rule_trusting", None)]
        for scenario in given.scenario.split(","):
            whole = run(given.bench, scenario, "forecast_rule", given.loop, given.seeds)
            for name, policy, parameters in arms:
                rows = run(given.bench, scenario, policy, given.loop, given.seeds, parameters)
                mean, lower, upper = interval([math.log(rows[s] / whole[s]) for s in sorted(whole)])
                table.writerow([scenario, given.loop, name, len(whole)] +
                               [f"{math.exp(x):.3f}" for x in (mean, lower, upper)])
                out.flush()


if __name__ == "__main__":
    main()
