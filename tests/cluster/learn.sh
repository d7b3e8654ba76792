# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/run learn: learners of both nodes teach one forecast, and one of the nodes tries it first.

learn_installed() {
  k create namespace ballast-system && k label namespace ballast-system pod-security.kubernetes.io/enforce=privileged &&
    helm install ballast "$chart" --namespace ballast-system --wait --timeout 4m \
      --set global.canaryPercent=50,global.canarySeconds=20,config.policy.name=forecast_rule && eventually 120 all_reached
}
# learned EXPRESSION: of f, the forecast in the leader's status, and p, its trials.
learned() {
  status | python3 -c '
import json, sys
f = json.load(sys.stdin)["forecast"]
p = f["promotion"]
print({k: f[k] for k in ("version", "accepted", "nodes")}, p)
sys.exit(not eval(sys.argv[1]))' "$1"
}
# told SECONDS EXPRESSION: until it holds; then what was told.
told() { eventually "$1" learned "$2"; learned "$2"; }
# A node that tries nothing acts with what was released, within ten seconds.
acts_with_released() {
  local canary rest
  canary=$(status | python3 -c 'import json,sys; print(json.load(sys.stdin)["forecast"]["promotion"]["canary_nodes"][0])') || return 1
  [ "$canary" = node-a ] && rest=b || rest=a
  eventually 10 same_version "$rest" || { same_version "$rest"; return 1; }
  echo "node-$rest, while $canary tries newer ones: $(same_version "$rest")"
}
same_version() {
  local acts released
  acts=$(ctl "$1" status -o json | python3 -c 'import json,sys; print(json.load(sys.stdin)["policy_version"])')
  released=$(status | python3 -c 'import json,sys; print(json.load(sys.stdin)["forecast"]["promotion"]["released"])')
  echo "acts with $acts, released $released"
  [ "$acts" = "$released" ]
}
# A learning rate that ruins what it teaches: what the canary tries is worse, and is taken back.
learned_badly() {
  system get deploy ballast-global -o json | python3 -c '
import json, sys
o = json.load(sys.stdin)
for i, c in enumerate(o["spec"]["template"]["spec"]["containers"]):
    if c["name"] == "ballast-global":
        c["command"].append("--forecast-lr=" + sys.argv[1])
        print(json.dumps([{"op": "replace", "path": f"/spec/template/spec/containers/{i}/command", "value": c["command"]}]))' "$1" >"$run/patch.json" &&
    system patch deploy ballast-global --type=json --patch-file "$run/patch.json" &&
    system rollout status deploy/ballast-global --timeout=120s && eventually 90 all_reached || return 1
  told 240 'p["returned"] > 0 and p["promoted"] == 0' && acts_with_released || return 1
  system logs "$(leader)" -c ballast-global | grep -F 'parameters given up' | tee "$run/given-up" &&
    python3 - "$run/given-up" <<'P'
import re
import sys
canary, rest = (float(re.search(rf'{side}_objective=(\S+)', open(sys.argv[1]).read()).group(1)) for side in ('canary', 'rest'))
sys.exit(not canary < rest)
P
}

learn() {
  check "helm install: the forecast is learned, and tried by half of the nodes first" learn_installed
  in_node a h2load --h1 -D 400 -c 16 --rps=4 "http://$(service_ip shop web)/" >/dev/null 2>&1 &
  local load=$!
  check "one node of the two is the canary" told 60 'p["trial"] and len(p["canary_nodes"]) == 1 and p["canary_nodes"][0] in ("node-a", "node-b")'
  check "the learners of both nodes push gradients, and the version rises" told 150 'f["version"] > 3 and len(f["nodes"]) == 2 and all(n["accepted"] > 0 for n in f["nodes"])'
  check "the other node acts with what was released" acts_with_released
  check "the trial ends: released where it pays, taken back where not" told 180 'p["promoted"] + p["returned"] > 0'
  check "the other node acts with what was released then" acts_with_released
  check "a canary that is worse is taken back, and the other node acts with what was released" learned_badly 0.5
  kill "$(pgrep -P "$load" || echo "$load")" 2>/dev/null
  wait "$load" 2>/dev/null || true
}
