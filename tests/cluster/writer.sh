# SPDX-License-Identifier: Apache-2.0
#
# What tests/cluster/run checks of who writes weights; each a function that says what is wrong and fails.

acts() {
  k -n shop label service web ballast.dev/mode=active --overwrite && k apply -k deploy/daemonset/overlays/active &&
    system rollout status deploy/ballast-global --timeout=120s && agents_ready
}
writes() { writer_pod | grep -q ballast-global && [ "$(weights | wc -l)" -ge "${1:-1}" ]; }
writer_pod() { system get lease ballast-leader -o jsonpath='{.spec.holderIdentity}'; }
# ADDRESS WEIGHT of what is written for web.
weights() {
  k -n shop get serviceentries -l ballast.dev/service=web -o json | python3 -c '
import json, sys
for entry in json.load(sys.stdin)["items"]:
    for e in entry["spec"]["endpoints"]:
        print(e["address"], e.get("weight"))'
}
some_load() { in_node a h2load --h1 -n 500 -c 4 "http://$(k -n shop get service web -o jsonpath='{.spec.clusterIP}')/" >/dev/null; }
# Somebody leads, so that the decision is on all nodes' pods; of Istio's there is nothing.
shadow_explains() {
  some_load
  sleep 3
  writer_pod | grep -q ballast-global || { echo "nobody leads"; return 1; }
  writer explain shop/web -o json | python3 -c '
import json, sys
rows = json.load(sys.stdin)
for row in rows:
    print(row["pod"], row["shadow_share"], row["outcome"], row["outcome_detail"], row["why"], row["measured"])
sys.exit(not (len(rows) == 2 and all(r["in_force"] == 0 and r["measured"]["cpu_limit_cores"] == 0.5 and
                                     r["outcome_detail"] == "mode shadow writes nothing" for r in rows)))' || return 1
  [ -z "$(k get serviceentries,virtualservices -A -o name)" ]
}
# Both pods, each measured by the agent of its own node.
writer_explains() {
  some_load
  sleep 3
  writer status -o json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print({k: s[k] for k in ("alive", "mode", "leader", "trouble", "programs")})
sys.exit(not (s["alive"] and s["mode"] == "active" and s["leader"].startswith("ballast-global-") and s["trouble"] == ""))' || return 1
  writer explain shop/web -o json | python3 -c '
import json, sys
rows = json.load(sys.stdin)
for row in rows:
    print(row["pod"], row["weight"], row["in_force"], row["outcome"], row["why"], row["measured"])
# What a pod may use is known of the node that measures it alone.
sys.exit(not (len(rows) == 2 and all(r["in_force"] > 0 and r["measured"]["cpu_limit_cores"] == 0.5 for r in rows)))' || return 1
  [ "$(writer weights -o json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')" = 2 ]
}
node_token() {
  printf "apiVersion: v1\nkind: Config\n" >"$run/nobody.conf"
  system create token ballast --duration=10m
}
may_not() { # may_not WHO ARGS...: by the token of a node's account
  local said
  said=$(k --kubeconfig="$run/nobody.conf" --server="https://$api:6443" --certificate-authority="$run/pki/ca.crt" --token="$token" "$@" 2>&1) &&
    { echo "it may: $*"; return 1; }
  [[ $said == *orbidden* || $said == *"Ballast writes"* ]] || { echo "$said"; return 1; }
}
node_writes_nothing() {
  local token name
  token=$(node_token)
  name=$(k -n shop get serviceentries -l ballast.dev/service=web -o jsonpath='{.items[0].metadata.name}')
  may_not -n shop patch serviceentry "$name" --type=merge -p '{"spec":{"exportTo":["."]}}' &&
    may_not -n shop create -f - <<<'{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"x"},"spec":{"hosts":["a.example"]}}' &&
    may_not -n ballast-system get secret ballast-ca &&
    may_not -n ballast-system patch lease ballast-leader --type=merge -p '{"metadata":{"annotations":{"a":"b"}}}' &&
    may_not -n ballast-system get configmap ballast-checkpoint &&
    may_not create -f - <<<'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"x"}}'
}
writer_moves() {
  local was=$(writer_pod) end
  system delete pod "${was%_*}" --grace-period=0 --force
  end=$((SECONDS + 60))
  until [ -n "$(writer_pod)" ] && [ "$(writer_pod)" != "$was" ] && writes 2; do
    [ "$SECONDS" -lt "$end" ] || { writer_pod; return 1; }
    sleep 0.3
  done
  echo "$was, then $(writer_pod)"
  eventually 60 writer explain shop/web
}
# Sends a signal to the writers' processes of both pods: by their ids, within the nodes.
to_writers() {
  local n
  for n in "${nodes[@]}"; do
    in_node "$n" sh -c "for pid in \$(pgrep -f -- '--role write[r]'); do kill -$1 \$pid; done"
  done
}
# Both writers hang: the nodes take back what they left. Then they are killed, and begin anew.
nodes_hand_back() {
  local begun=$SECONDS said
  eventually 60 writes 2 || return 1
  to_writers STOP
  eventually 60 test_nothing_written || { weights; to_writers CONT; return 1; }
  echo "handed back after $((SECONDS - begun)) s: a Lease of ten, a look every five, two to spread"
  said=$(for n in "${nodes[@]}"; do
    system logs "$(system get pods -l app=ballastd --field-selector "spec.nodeName=node-$n" -o name)" -c ballastd | grep 'override removed'
  done)
  echo "$said"
  to_writers KILL
  [ -n "$said" ] && system rollout status deploy/ballast-global --timeout=120s && eventually 60 writes 2
}
test_nothing_written() { [ -z "$(weights)" ]; }
# learner_as NAME WORDS: what a learner of that name with the token of $run/proof says until it says the words (a regular
# expression), 40 s at most.
learner_as() {
  local ip learner i
  ip=$(system get pod "$(leader)" -o jsonpath='{.status.podIP}') || return 1
  system get configmap ballast-ca -o jsonpath='{.data.ca\.crt}' >"$run/ca.crt"
  nsenter --net=/run/netns/ballast-cp timeout 40 build/release/bin/ballast-learner --agent="unix:$run/nobody.sock" \
    --global="$ip:7700" --worker-id="$1" --tls-ca="$run/ca.crt" --token="$run/proof" \
    --server-name=ballast-global.ballast-system.svc >"$run/said-as" 2>&1 &
  learner=$!
  for ((i = 0; i < 200; i++)); do
    grep -qE "$2" "$run/said-as" && break
    sleep 0.2
  done
  kill "$learner"
  wait "$learner"
  cat "$run/said-as"
}
token_of() { # token_of POD: bound to it, so that it holds as long as the pod is there
  system create token ballast --audience=ballast --bound-object-kind=Pod --bound-object-name="$1" >"$run/proof"
}
# A node with its own token and its agent's rights: another's name, and any bytes, many times.
hostile_node() {
  local ip pod said before after
  ip=$(system get pod "$(leader)" -o jsonpath='{.status.podIP}') || return 1
  pod=$(system get pods -l app=ballastd --field-selector spec.nodeName=node-a -o jsonpath='{.items[0].metadata.name}')
  token_of "$pod" || return 1
  said=$(learner_as node-b "is not the token's")
  [[ $said == *"node-b"*"is not the token's"* && $said != *" reached "* ]] || { echo "as node-b: $said"; return 1; }
  said=$(learner_as node-a/more ' reached ')
  [[ $said == *" reached "* ]] || { echo "as itself: $said"; return 1; }
  before=$(memory_of_global)
  in_control python3 tests/cluster/garbage.py "$ip:7700" "$run/ca.crt" "$run/proof" || return 1
  sleep 2
  after=$(memory_of_global)
  echo "memory of the leader: $before, then $after MB"
  [ "$after" -lt 300 ] && all_reached && writes 2
}
# A token ends with its pod: what was said of it is remembered for a minute.
token_revoked() {
  local begun said
  k apply -f tests/cluster/manifests/revoked.yaml && eventually 60 system wait --for=condition=Ready --timeout=1s pod/revoked &&
    token_of revoked || return 1
  said=$(learner_as node-a/revoked ' reached ')
  [[ $said == *" reached "* ]] || { echo "before: $said"; return 1; }
  system delete pod revoked --grace-period=0 --force
  begun=$SECONDS
  until [[ $(learner_as node-a/revoked 'token refused| reached ') == *"token refused"* ]]; do
    [ "$((SECONDS - begun))" -lt 120 ] || { cat "$run/said-as"; return 1; }
    sleep 2
  done
  echo "refused $((SECONDS - begun)) s after its pod was deleted: $(grep -F -m 1 'token refused' "$run/said-as")"
  [ "$((SECONDS - begun))" -le 70 ] && eventually 60 all_reached
}
# MB that the leading ballast-global holds, of its process.
memory_of_global() {
  local node
  node=$(system get pod "$(leader)" -o jsonpath='{.spec.nodeName}')
  in_node "${node#node-}" sh -c 'for pid in $(pgrep -x ballast-global); do awk "/^VmRSS/ {print int(\$2 / 1024)}" /proc/$pid/status; done' | sort -n | tail -n 1
}
