#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds, and shows Ballast against Envoy's own balancers on four unequal
# pods: live while it runs, then one comparison and a JSON report.
#   tools/demo.sh [--seconds N] [--report FILE]
# N is the measured time of each of the four arms, after 8 s of warm-up (default 20).
set -euo pipefail

usage() { sed -n '4,7s/^# \{0,1\}//p' "$0"; }
seconds=20
report=""
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?demo: --seconds needs a number}; shift 2 ;;
    --report) report=$(realpath -m "${2:?demo: --report needs a file}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "demo: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done
case $seconds in
  '' | *[!0-9]*) echo "demo: --seconds: \"$seconds\" is not a whole number" >&2; exit 2 ;;
esac
if [ "$(id -u)" -ne 0 ]; then
  echo "demo: it makes cgroups and loads eBPF: run it as root" >&2
  exit 3
fi

cd "$(dirname "$0")/.."
tools/deps.sh
tools/build.sh
report=${report:-$PWD/build/demo.json}
exec build/release/bin/ballast-lab run --scenario demo \
  --policy round_robin,least_request,capacity_oracle,ballast \
  --warmup 8 --duration "$seconds" --report "$report"
