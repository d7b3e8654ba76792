#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/bench/ablations.sh [--quick] [OUT]: what each part of the learning is worth. Every arm imitates the
# square-root rule, then learns by itself, over the same seeds and steps; the returns are those of the same
# episodes for all, relative to the prior's (0 is the prior). Runs that OUT already holds are not run again.
# --quick: one seed and a twentieth of the steps, to see that all of it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
steps=10000 seeds=10 episodes=40
[ "${1:-}" = --quick ] && { steps=500 seeds=1 episodes=2; shift; }
out=${1:-build/ablations}
bench=build/release/bin/ballast-bench
[ -x "$bench" ] || { echo "ablations.sh: $bench is not there; run tools/build.sh" >&2; exit 1; }

one() {  # arm seed flags...
  local folder=$out/$1/$2
  [ -s "$folder/summary.json" ] && return
  mkdir -p "$folder"
  nice -n 19 "$bench" train --env sim --imitate "$steps" --steps "$steps" --seed "$2" --episodes 8 \
    --evaluate-every "$steps" --final-episodes "$episodes" --out "$folder" "${@:3}" >/dev/null 2>"$folder.log" ||
    { cat "$folder.log" >&2; exit 1; }
  rm -f "$folder.log"
}

for seed in $(seq "$seeds"); do
  one "a3c" "$seed" --algo a3c --workers 2
  one "a3c, one exploration for all" "$seed" --algo a3c --workers 2 --one-exploration
  one "a3c without the prior" "$seed" --algo a3c --workers 2 --without prior
  one "a3c without the pooled context" "$seed" --algo a3c --workers 2 --without context
  one "a3c without the churn term" "$seed" --algo a3c --workers 2 --without churn
  for learner in a2c ppo pg dqn; do
    one "$learner in its place" "$seed" --algo "$learner"
  done
done

python3 - "$out" <<'PY'
import json, pathlib, random, statistics, sys

def interval(differences):
    draws = random.Random(1)
    means = sorted(statistics.mean(draws.choices(differences, k=len(differences))) for _ in range(10000))
    return f"{statistics.mean(differences):.1f} [{means[250]:.1f}, {means[9749]:.1f}]"

arms = {}
for arm in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    runs = {file.parent.name: json.loads(file.read_text()) for file in arm.glob("*/summary.json")}
    if runs:
        arms[arm.name] = runs
print(f"{'arm':<30} {'seeds':>5} {'best':>7} {'last':>7}  {'best beside a3c':<22} last beside a3c")
for name, runs in arms.items():
    best, last = ([run[key] for run in runs.values()] for key in ("final_return", "last_return"))
    beside = []
    for key in ("final_return", "last_return"):
        both = [seed for seed in runs if seed in arms.get("a3c", {})]
        beside.append(interval([runs[seed][key] - arms["a3c"][seed][key] for seed in both])
                      if both and name != "a3c" else "")
    print(f"{name:<30} {len(best):>5} {statistics.median(best):>7.2f} {statistics.median(last):>7.2f}  "
          f"{beside[0]:<22} {beside[1]}")
print("best, last: median over the seeds of the mean return by the parameters that were best when looked at,")
print("and by those of the last step; 0 is the prior. beside a3c: mean difference of the same seeds, 95 % by")
print("bootstrap")
PY
