#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The live benchmarks: ABBA pairs on real Envoys and real pods, Ballast beside LEAST_REQUEST.
#   tools/bench/lab.sh [never-worse] [--pairs N] [--duration S] [--only ROW[,ROW...]] [--out DIR]
# Without a word: unequal pods at 70 % and 85 % load, equal ones, and how fast weights follow a quota that
# is halved; 50 minutes with 5 pairs of 60 s (the defaults). never-worse: every live row of "never worse"
# (requests that wait, pools, slow backends, pods whose capacity moves), each with its ratio, interval and
# target; 110 minutes with the defaults, half an hour with --pairs 2 --duration 20. Reports that --out has of rows
# that are not run again are judged too. Exit code 1 when a target is missed.
set -euo pipefail

usage() { sed -n '4,10s/^# \{0,1\}//p' "$0"; }
table=demo
pairs=5
seconds=60
only=""
out=""
while [ $# -gt 0 ]; do
  case $1 in
    never-worse) table=$1; shift ;;
    --pairs) pairs=${2:?lab: --pairs needs a number}; shift 2 ;;
    --duration | --seconds) seconds=${2:?lab: $1 needs a number}; shift 2 ;;
    --only) only=,${2:?lab: --only needs rows},; shift 2 ;;
    --out) out=$(realpath -m "${2:?lab: --out needs a folder}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "lab: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done

cd "$(dirname "$0")/../.."
out=${out:-$PWD/build/bench/lab}
mkdir -p "$out"
lab=build/release/bin/ballast-lab
{ [ -x "$lab" ] && [ -x build/release/bin/ballast-learner ]; } || tools/build.sh

# row NAME SCENARIO POLICIES [LEAST SECONDS] [FLAGS...]: its report is $out/NAME.json
row() {
  local name=$1 scenario=$2 policies=$3 least=${4:-0}
  shift $(($# > 4 ? 4 : $#))
  [ -z "$only" ] || [[ $only == *,$name,* ]] || return 0
  "$lab" run --scenario "$scenario" --policy "$policies" --duration $((seconds > least ? seconds : least)) \
    --pairs "$pairs" --no-live --report "$out/$name.json" "$@"
}

if [ "$table" = demo ]; then
  row demo demo least_request,capacity_oracle,ballast
  row demo-85 demo-85 least_request,capacity_oracle,ballast
  row null null least_request,ballast
  seconds=0 row quota-halved quota-halved ballast 25
else
  both=least_request,ballast
  row io-limits-56 io-limits $both 0 --load .56
  row io-limits-72 io-limits $both 0 --load .72
  row single-thread single-thread $both
  row pool pool $both
  row slow-downstream slow-downstream $both
  row unequal-50 unequal-50 $both
  row unequal-70 unequal-50 $both 0 --load .7
  row unequal-85 unequal-50 $both 0 --load .85
  row null null $both
  row moving moving $both 60 # its quotas move for 60 s
  # The loop of `loop: eds`.
  { cat tools/lab/scenarios/quota-halved.yaml; echo "tick_ms: 47"; } >"$out/quota-halved-eds.yaml"
  seconds=0 row quota-halved-eds "$out/quota-halved-eds.yaml" ballast 25
fi
exec python3 tools/bench/lab_report.py "$out" "$table"
