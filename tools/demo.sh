#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds, and shows Ballast against Envoy's own balancers on four unequal
# pods: live while it runs, then one comparison and a JSON report.
#   tools/demo.sh [--seconds N] [--report FILE]
#   tools/demo.sh --istio [--seconds N] [--pairs N]
# N is the measured time of each of the four arms, after 8 s of warm-up (default 20).
# --istio: the same pods through a real kube-apiserver, istiod and Envoy, Ballast installed by its manifests,
# against plain Istio; builds those from Go modules once (ten minutes and more; needs Go 1.26 and etcd).
set -euo pipefail

usage() { sed -n '4,10s/^# \{0,1\}//p' "$0"; }
seconds=20
report=""
istio=false
pairs=1
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?demo: --seconds needs a number}; shift 2 ;;
    --istio) istio=true; shift ;;
    --pairs) pairs=${2:?demo: --pairs needs a number}; shift 2 ;;
    --report) report=$(realpath -m "${2:?demo: --report needs a file}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "demo: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done
for number in "$seconds" "$pairs"; do
  case $number in
    '' | 0 | *[!0-9]*) echo "demo: \"$number\" is not a whole number above 0" >&2; exit 2 ;;
  esac
done
if [ "$(id -u)" -ne 0 ]; then
  echo "demo: it makes cgroups and loads eBPF: run it as root" >&2
  exit 3
fi

cd "$(dirname "$0")/.."
if $istio; then
  command -v etcd >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server >/dev/null; }
  code=0
  tools/mesh/build.sh || code=$?
  if [ "$code" -ne 0 ]; then
    echo "demo: no Istio to show: see above. Without --istio the demo needs none of it." >&2
    exit "$code"
  fi
  tools/build.sh
  exec env BALLAST_MESH_LIVE=1 BALLAST_MESH_SECONDS="$seconds" BALLAST_MESH_PAIRS="$pairs" \
    build/release/bin/tests/mesh_istio_test --gtest_brief=1 --gtest_filter='UnequalTest.*'
fi
tools/build.sh
report=${report:-$PWD/build/demo.json}
exec build/release/bin/ballast-lab run --scenario demo \
  --policy round_robin,least_request,capacity_oracle,ballast \
  --warmup 8 --duration "$seconds" --report "$report"
