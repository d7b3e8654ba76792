#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/bench/learning_live.sh [--learn S] [--duration S] [--warmup S] [--pairs N] [OUT]: what learning on the
# node is worth on real pods. The lab's scenario `cron`, EDS, a tick of 1 s.
#   1. forecast_rule beside a learner and a global network of its own for --learn seconds (600), from an untrained
#      forecast, which is the strong rule.
#   2. Pairs (5) of arms of --duration seconds (60) after --warmup (60): queue_rule, forecast_rule with the shipped
#      forecast and no learner, forecast_rule that goes on learning from what 1 left.
# Writes OUT (build/learning-live): learn.json, pairs.json, learned.bin, the forecast's errors and the cost of the
# learner. As root, with Envoy (tools/build.sh); on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
learn=600 duration=60 warmup=60 pairs=5 out=build/learning-live
while [ $# -gt 0 ]; do
  case $1 in
    --learn) learn=$2; shift 2 ;;
    --duration) duration=$2; shift 2 ;;
    --warmup) warmup=$2; shift 2 ;;
    --pairs) pairs=$2; shift 2 ;;
    -*) echo "learning_live.sh: unknown flag $1" >&2; exit 2 ;;
    *) out=$1; shift ;;
  esac
done
bin=build/release/bin
for program in ballast-lab ballastd ballast-learner ballast-global; do
  [ -x "$bin/$program" ] || { echo "learning_live.sh: $bin/$program is not there; run tools/build.sh" >&2; exit 1; }
done
mkdir -p "$out"
{ cat tools/lab/scenarios/cron.yaml; printf 'tick_ms: 1000\nlearner: true\n'; } >"$out/cron.yaml"

python3 - "$out/untrained.bin" model/policy/forecast.bin <<'PY'
import random, struct, sys, zlib
# The shipped file with a last layer of zeros (core/spec/forecast.h), so that it says "as now", and hidden layers at
# random.
hidden, guesses, features = 32, 5, 24
body = bytearray(open(sys.argv[2], "rb").read()[:-4])
draw = random.Random(1)
at = 16
for inputs, outputs in ((features, hidden), (hidden, hidden)):
    for _ in range(inputs * outputs):
        struct.pack_into("<f", body, at, draw.uniform(-1, 1) * (3 / inputs) ** 0.5)
        at += 4
    body[at:at + 4 * outputs] = bytes(4 * outputs)
    at += 4 * outputs
body[at:] = bytes(len(body) - at)
open(sys.argv[1], "wb").write(bytes(body) + struct.pack("<I", zlib.crc32(bytes(body))))
PY

echo "learning for $learn s"
"$bin/ballast-lab" run --scenario "$out/cron.yaml" --policy forecast_rule --duration "$learn" --no-live --keep \
  --forecast "$out/untrained.bin" --report "$out/learn.json" | tee "$out/learn.log"
kept=$(sed -n 's/^folder of the run: //p' "$out/learn.log")
[ -d "$kept" ] || { echo "learning_live.sh: the run's folder was not told" >&2; exit 1; }
learned=$(find "$kept" -path '*forecast-*' -name parameters-latest | head -n 1)
[ -s "$learned" ] || { echo "learning_live.sh: the global network left no forecast in $kept" >&2; exit 1; }
cp "$learned" "$out/learned.bin"
find "$kept" -name learner.log -exec grep -h 'forecast learned' {} + | tail -n 1 | tee "$out/forecast.log"

echo "comparing, $pairs pairs of $duration s"
"$bin/ballast-lab" run --scenario "$out/cron.yaml" --policy queue_rule,forecast_rule_shipped,forecast_rule \
  --duration "$duration" --warmup "$warmup" --pairs "$pairs" --no-live --forecast "$out/learned.bin" \
  --report "$out/pairs.json" >"$out/pairs.log"

python3 - "$out" <<'PY'
import json, math, pathlib, statistics, sys
out = pathlib.Path(sys.argv[1])
arms = {arm["policy"]: arm for arm in json.loads((out / "pairs.json").read_text())["arms"]}
def p99(policy):
    return [run["p99_ms"] for run in arms[policy]["results"]]
for base in ("queue_rule", "forecast_rule_shipped"):
    ratios = [math.log(ours / theirs) for ours, theirs in zip(p99("forecast_rule"), p99(base))]
    mean = statistics.fmean(ratios)
    print(f"p99 after learning over that of {base}: {math.exp(mean):.3f}", "of pairs",
          [round(math.exp(each), 3) for each in ratios])
for run in json.loads((out / "learn.json").read_text())["arms"][0]["results"]:
    for process in run["processes"]:
        print(process)
PY
