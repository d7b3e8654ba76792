#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What measuring gets right and what it costs: requests counted against the client's own count, over
# a link that loses and reorders packets too, latency against a packet capture, and nginx with and without the agent.
#   tools/bench/telemetry.sh [--quick] [--pairs N] [--seconds N] [--only counted,kinds,lossy,timed,cost] [--out DIR]
#   tools/bench/telemetry.sh --against OTHER/build/release/bin [--pairs N]: kernel time a request of two builds
# Prints one table; writes telemetry.json and telemetry.svg to DIR (build/bench/telemetry). As root.
# About 15 minutes with 10 pairs (the default), 2 minutes with --quick. Figures that were taken beside
# other load are marked preliminary. Exit code 1 when a target is missed.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
  -h | --help) sed -n '4,10s/^# \{0,1\}//p' tools/bench/telemetry.sh; exit 0 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "telemetry: run as root (cgroups, namespaces, eBPF)" >&2; exit 3; }
if [ ! -x build/release/bin/bench/ballast-bench-telemetry ] || [ ! -x build/release/bin/ballastd ]; then
  tools/build.sh
fi
exec python3 tools/bench/telemetry/run.py --bin build/release/bin "$@"
