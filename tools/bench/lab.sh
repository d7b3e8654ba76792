#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The live benchmark: ABBA pairs on real Envoys and real pods, at 70 % and 85 % load on unequal pods
# and on equal ones, judged by the median paired ratio of p99; then how fast weights follow a quota
# that is halved.
#   tools/bench/lab.sh [--pairs N] [--seconds N] [--out DIR]
# Takes about 50 minutes with 5 pairs of 60 s (the defaults). Exit code 1 when a target is missed.
set -euo pipefail

usage() { sed -n '4,8s/^# \{0,1\}//p' "$0"; }
pairs=5
seconds=60
out=""
while [ $# -gt 0 ]; do
  case $1 in
    --pairs) pairs=${2:?lab: --pairs needs a number}; shift 2 ;;
    --seconds) seconds=${2:?lab: --seconds needs a number}; shift 2 ;;
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

bench() {
  local name=$1 policies=$2 duration=${3:-$seconds}
  "$lab" run --scenario "$name" --policy "$policies" --duration "$duration" --pairs "$pairs" \
    --no-live --report "$out/$name.json"
}
bench demo least_request,capacity_oracle,ballast
bench demo-85 least_request,capacity_oracle,ballast
bench null least_request,ballast
bench quota-halved ballast 25
exec python3 tools/bench/lab_report.py "$out"
