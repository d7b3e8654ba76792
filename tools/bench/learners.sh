#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/bench/learners.sh [--quick] [OUT]: every learner on CartPole and the three that are asked for on
# Acrobot, ten seeds each within the step budgets, then the table. Seeds that OUT already holds are not
# run again. --quick: one seed and a tenth of the steps, to see that all of it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
quick=0
[ "${1:-}" = --quick ] && { quick=1; shift; }
out=${1:-build/learners}
bench=build/release/bin/ballast-bench
[ -x "$bench" ] || { echo "learners.sh: $bench is not there; run tools/build.sh" >&2; exit 1; }
seeds=10
[ "$quick" = 1 ] && seeds=1

one() {  # learner environment steps seed
  local steps=$3 folder=$out/$2/$1/$4
  [ "$quick" = 1 ] && steps=$((steps / 10))
  [ -s "$folder/summary.json" ] && return
  nice -n 19 "$bench" train --algo "$1" --env "$2" --steps "$steps" --seed "$4" --out "$folder" --resume \
    >/dev/null 2>"$folder.log" || { cat "$folder.log" >&2; exit 1; }
  rm -f "$folder.log"
}

while read -r environment learner steps; do
  mkdir -p "$out/$environment/$learner"
  for seed in $(seq "$seeds"); do
    one "$learner" "$environment" "$steps" "$seed"
  done
done <<TASKS
cartpole pg 300000
cartpole a3c 200000
cartpole a2c 400000
cartpole ppo 100000
cartpole dqn 50000
cartpole q_learning 300000
acrobot a2c 500000
acrobot ppo 500000
acrobot dqn 100000
TASKS

python3 - "$out" <<'PY'
import json, pathlib, statistics, sys

print(f"{'environment':<12} {'learner':<11} {'steps':>8} {'seeds':>5} {'solved':>6} {'best':>8} {'last':>8} {'steps/s':>9}")
runs = {}
for file in sorted(pathlib.Path(sys.argv[1]).glob("*/*/*/summary.json")):
    run = json.loads(file.read_text())
    runs.setdefault((run["environment"], run["learner"]), []).append(run)
for (environment, learner), rows in sorted(runs.items(), reverse=True):
    solved = sum(row["final_return"] >= row["solved_at"] for row in rows)
    middle = lambda key: statistics.median(row[key] for row in rows)
    print(f"{environment:<12} {learner:<11} {rows[0]['steps']:>8} {len(rows):>5} {solved:>6} "
          f"{middle('final_return'):>8.1f} {middle('last_return'):>8.1f} {middle('steps_per_s'):>9.0f}")
print("best, last: median over the seeds of the mean of 100 episodes without exploration, by the parameters")
print("that were best when looked at while learning, and by those of the last step")
PY
