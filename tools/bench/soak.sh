#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Whether the agent's memory stays flat while connections and cgroups come and go, and what it needs
# for many that stay.
#   tools/bench/soak.sh [--minutes N] [--only churn,standing] [--out DIR]
# churn: 100 connections and 10 cgroups born and gone each second for N minutes (30), with spans on and
# a collector that is not there. standing: 500 cgroups with 20,000 open connections. Writes soak.csv,
# soak.json and soak.svg to DIR (build/bench/soak). As root. Takes a tenth of a CPU; may run beside
# other work, for memory is what counts. Exit code 1 when a target is missed.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
  -h | --help) sed -n '4,10s/^# \{0,1\}//p' tools/bench/soak.sh; exit 0 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "soak: run as root (cgroups, eBPF)" >&2; exit 3; }
{ [ -x build/release/bin/ballastd ] && [ -x build/release/bin/bench/ballast-bench-telemetry ]; } || tools/build.sh
exec python3 tools/bench/telemetry/soak.py --bin build/release/bin "$@"
