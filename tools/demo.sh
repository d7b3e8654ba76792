#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds what the demo needs, and shows Ballast against Envoy's own balancers on four
# unequal pods: live while it runs, then one comparison, a JSON report and a page for a browser beside it.
#   tools/demo.sh [--seconds N] [--report FILE] [--learner]
#   tools/demo.sh --map
#   tools/demo.sh --istio [--seconds N] [--pairs N]
#   tools/demo.sh --cluster
# N is the measured time of each of the arms, after 8 s of warm-up (default 20).
# --learner: an arm more, the learned policy, which learns while it acts: ballast-learner (LibTorch) and ballast-global
# run beside it. The arm "ballast" is ballastd as it comes, which needs neither.
# --map: no comparison, but a shop of five Services with real traffic, and its service map for a browser until Ctrl-C
# (examples/shop/run); of all this the soonest to be seen.
# --istio: the same pods through a real kube-apiserver, istiod and Envoy, Ballast installed by its manifests,
# against plain Istio; builds those from Go modules once (ten minutes and more; needs Go 1.26 and etcd).
# --cluster: a real Kubernetes of two nodes with Istio, Ballast installed by its manifests, and Jaeger's HotROD behind
# sidecars under load: who serves what on each node, and why its route is weighed as it is, until Ctrl-C
# (tests/cluster/run show; what it needs is built once, as for --istio).
set -euo pipefail

usage() { sed -n '4,20s/^# \{0,1\}//p' "$0"; }
seconds=20
report=""
istio=false
cluster=false
map=false
learner=false
pairs=1
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?demo: --seconds needs a number}; shift 2 ;;
    --istio) istio=true; shift ;;
    --cluster) cluster=true; shift ;;
    --map) map=true; shift ;;
    --learner) learner=true; shift ;;
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
! $cluster || exec tests/cluster/run show
if $istio; then
  tools/deps.sh
  code=0
  tools/mesh/build.sh || code=$?
  if [ "$code" -ne 0 ]; then
    echo "demo: no Istio to show: see above. Without --istio the demo needs none of it." >&2
    exit "$code"
  fi
  tools/build.sh release ballastd ballastctl ballast-lab mesh_istio_test
  exec env BALLAST_MESH_LIVE=1 BALLAST_MESH_SECONDS="$seconds" BALLAST_MESH_PAIRS="$pairs" \
    build/release/bin/tests/mesh_istio_test --gtest_brief=1 --gtest_filter='UnequalTest.*'
fi

# What lies ahead: packages and files, at the seconds that each takes an idle core of a server of today.
programs=(ballastd ballast-lab)
! $map || programs=(ballastd ballastctl)
purpose=demo
if $learner; then
  programs+=(ballast-global ballast-learner)
  purpose=build
fi
# Objects of the programs that are not there yet; how many they are is known only to a configured folder.
files=140
if [ -f build/release/build.ninja ] && command -v ninja >/dev/null; then
  objects=$(ninja -C build/release -t commands "${programs[@]}" 2>/dev/null | grep -oE -- ' -o [^ ]+\.o ' | cut -d' ' -f3 || true)
  [ -z "$objects" ] || files=$(cd build/release && for object in $objects; do [ -e "$object" ] || echo; done | wc -l)
fi
packages=$(tools/deps.sh --list "$purpose" | wc -l)
cores=$(nproc)
policies=round_robin,least_request,capacity_oracle,ballast
arms=4
if $learner; then
  policies+=,learned
  arms=5
fi
arms_s=$((arms * (seconds + 10)))
running="$((arms_s / 60)) min $((arms_s % 60)) s of running"
! $map || running="a map until Ctrl-C"
echo "demo: $packages packages to install and $files files to compile: about" \
  "$(((packages * 3 + files * 3 / cores + 59) / 60)) minutes on $cores idle cores," \
  "then $running"
tools/build.sh --for "$purpose" release "${programs[@]}"
! $map || exec examples/shop/run
report=${report:-$PWD/build/demo.json}
lab=(build/release/bin/ballast-lab run --scenario demo --policy "$policies"
  --warmup 8 --duration "$seconds" --report "$report" --report-page "${report%.json}.html")
exec "${lab[@]}"
