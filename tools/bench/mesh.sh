#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long figures against a real kube-apiserver, istiod and Envoy, as one table and as JSON. The tests are those
# of tests/mesh, for longer; they have to pass. REQUIRES tests/mesh/run to have built everything, and root.
#   tools/bench/mesh.sh [--quick] [--only PART] [-o FILE.json]
# Parts: weights (200 changes), at_once (50 with an istiod that does not wait before EDS pushes), leaves (the way of 100
# leaving pods: ours, plain, the barest), scale_down (4 of 6 pods that exit at once, nine pairs), refused (a rolling
# update whose writes are refused half way, three pairs), loop (10 minutes of quotas halved and given back), unequal
# (Ballast against plain Istio, five pairs at the sidecar and five at an ingress gateway, and with istio_fast quotas halved
# 24 times: fifteen minutes), learned (the shipped policy instead, at the sidecar), scale (500 services), size
# (the writer's memory and reads at 5,000 nodes and 500 Services, 50 of them of 2,500 endpoints, and beside 451 more that
# nobody manages; --quick takes a tenth each), away (API server gone for two minutes), pods_end (the same, while pods end,
# beside plain Istio). About an hour; --quick takes a fifth of it.
set -euo pipefail
usage() { sed -n '4,16s/^# \{0,1\}//p' "$0"; }
root=$(cd "$(dirname "$0")/../.." && pwd)
quick=false
only=""
out=$root/build/mesh.json
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=true; shift ;;
    --only) only=${2:?mesh: --only needs a part}; shift 2 ;;
    -o) out=$(realpath -m "${2:?mesh: -o needs a file}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "mesh: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done
test=$root/build/release/bin/tests/mesh_istio_test
[ -x "$test" ] && [ -x "$root/build/mesh/pilot-discovery" ] || { echo "mesh: run tests/mesh/run first" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
code=0
part() {
  local name=$1 filter=$2
  shift 2
  if [ -n "$only" ] && [ "$only" != "$name" ] && [[ "$only $name" != "unequal unequal_"* ]]; then return; fi
  echo "== $name"
  env "$@" "$test" --gtest_filter="$filter" --gtest_output="json:$folder/$name.json" >"$folder/$name.log" 2>&1 ||
    { code=1; echo "mesh: $name FAILED" >&2; }
  grep -E '^[a-z0-9].*( ms| s|failed|EDS)|Failure' "$folder/$name.log" | grep -vE '^\[' || true
}
long() { if $quick; then echo "$2"; else echo "$1"; fi; }
part weights '*AWeightIsInEnvoy*:*TrafficSplits*' BALLAST_MESH_CHANGES="$(long 200 30)"
part at_once '*AWeightIsInEnvoy*' BALLAST_MESH_CHANGES="$(long 50 20)" PILOT_ENABLE_EDS_DEBOUNCE=false
part leaves '*ALeavingPod*' BALLAST_MESH_LEAVES="$(long 100 20)"
part scale_down '*AScaleDown*' BALLAST_MESH_PAIRS="$(long 9 3)"
part refused '*RefusedHalfWay*' BALLAST_MESH_PAIRS="$(long 3 1)"
part loop '*HalvingAPodsQuota*' BALLAST_MESH_REPEATS="$(long 50 6)"
part unequal 'UnequalTest.*' BALLAST_MESH_PAIRS="$(long 5 2)" BALLAST_MESH_SECONDS="$(long 14 8)" \
  BALLAST_MESH_POLICY=queue_rule
part unequal_gateway 'UnequalTest.*' BALLAST_MESH_PAIRS="$(long 5 2)" BALLAST_MESH_SECONDS="$(long 14 8)" \
  BALLAST_MESH_POLICY=queue_rule BALLAST_MESH_GATEWAY=1
part unequal_fast '*HalvingAPodsQuota*' BALLAST_MESH_REPEATS="$(long 24 3)" BALLAST_MESH_FAST=1
part learned 'UnequalTest.*' BALLAST_MESH_PAIRS="$(long 4 2)" BALLAST_MESH_SECONDS="$(long 20 10)" \
  BALLAST_MESH_POLICY=learned
part scale '*ManyServices*' BALLAST_MESH_SERVICES="$(long 500 300)"
part size 'ScaleTest.*' BALLAST_MESH_NODES="$(long 5000 500)" BALLAST_MESH_SMALL="$(long 450 45)" \
  BALLAST_MESH_LARGE="$(long 50 5)" BALLAST_MESH_ENDPOINTS="$(long 2500 250)" BALLAST_MESH_SECONDS="$(long 20 10)" \
  BALLAST_MESH_OTHERS_LARGE=1
part away '*TheApiServerAway*' BALLAST_MESH_AWAY_S="$(long 120 20)"
part pods_end '*PodsThatEnd*' BALLAST_MESH_PODS_END_S="$(long 120 20)"

python3 - "$folder" "$out" <<'PY'
import json, pathlib, sys
rows = {}
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    known = {"name", "file", "line", "status", "result", "timestamp", "time", "classname", "failures", "type_param"}
    for suite in json.loads(file.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            for key, value in test.items():
                if key not in known:
                    rows.setdefault(file.stem, {})[key] = float(value)
for part, figures in rows.items():
    for name, value in figures.items():
        print(f"{part:10} {name:24} {value:10.3f}")
pathlib.Path(sys.argv[2]).write_text(json.dumps(rows, indent=1) + "\n")
print("written:", sys.argv[2])
PY
exit $code
