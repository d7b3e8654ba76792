# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/run life: what happens to a cluster, while requests go through an Envoy to two Services of the same
# pods, of which one opted in. None may fail of it beyond what fails of the other.

# LUCKY=1: where pods end without a word, which of the two an unlucky request belongs to is luck. Then a difference
# counts that chance would make once in a hundred times.
# start_load [SERVICE...]: of shop; end_load prints what became of its requests.
start_load() {
  local services=("$@")
  [ $# -gt 0 ] || services=(life plain)
  in_control python3 tests/cluster/load.py 127.0.0.1:80 "${RATE:-60}" "${services[@]/%/.shop.svc.cluster.local}" \
    >"$run/load.json" 2>"$run/logs/load.log" </dev/null &
  load_pid=$!
  sleep 2
}
end_load() {
  kill -TERM "$(pgrep -P "$load_pid" || echo "$load_pid")" 2>/dev/null
  wait "$load_pid"
  cat "$run/load.json"
}
# no_worse FILE SERVICE FILE SERVICE: of the lines that load.py printed, the first Service's failed requests are not more
# than the second's.
no_worse() {
  python3 - "$@" "${LUCKY:-0}" <<'P'
import json
import math
import sys


def total(file, service):
    rows = [json.loads(line)[service + '.shop.svc.cluster.local'] for line in open(file)]
    return sum(row['ok'] for row in rows), sum(row['failed'] for row in rows)


(ok, failed), (plain_ok, plain_failed) = total(*sys.argv[1:3]), total(*sys.argv[3:5])
luck = 2.33 * math.sqrt(failed + plain_failed) if sys.argv[5] == '1' else 0
print(f'with Ballast {failed} failed, {ok} did not; without {plain_failed} failed, {plain_ok} did not; luck {luck:.1f}')
sys.exit(not (ok > 100 and plain_ok > 100 and failed <= plain_failed + luck))
P
}
stop_load() {
  end_load
  no_worse "$run/load.json" life "$run/load.json" plain
}
# during NAME COMMAND...: passes where the command does and no request failed beyond plain ones.
under_load() {
  local code=0
  start_load
  "$@" || code=1
  sleep 3
  stop_load || { echo "requests failed beyond the same without Ballast"; code=1; }
  return $code
}
lucky() { LUCKY=1 "$@"; }

life_weighted() {
  local host
  k -n shop rollout status deploy/life --timeout=120s &&
    eventually 60 life_written 3 || return 1
  in_control curl -fsS -m 3 'http://127.0.0.1:15000/clusters?format=json' | python3 -c '
import json, sys
for c in json.load(sys.stdin)["cluster_statuses"]:
    if c["name"] == "outbound|80||life.shop.svc.cluster.local":
        found = [(h["address"]["socket_address"]["address"], h.get("weight")) for h in c["host_statuses"]]
        print(found)
        sys.exit(not (len(found) == 3 and sum(w or 1 for _, w in found) >= 2900))
sys.exit(1)'
}
life_written() {
  [ "$(k -n shop get serviceentries -l ballast.dev/service=life -o jsonpath='{range .items[*].spec.endpoints[*]}{.address}{"\n"}{end}' | wc -l)" -eq "$1" ]
}
upgraded_and_back() {
  system set env ds/ballastd -c ballastd AGAIN=1 && agents_ready && system rollout undo ds/ballastd && agents_ready
}
# again NODE PROGRAM [SECONDS]: killed and, so much later, started as it was.
again() {
  in_node "$1" bash -c '
    pid=$(pgrep -x "$1" | head -n 1)
    mapfile -d "" -t args <"/proc/$pid/cmdline"
    for group in /sys/fs/cgroup/*/; do echo $$ >"$group/cgroup.procs" || true; done
    kill -9 "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.1; done
    sleep "$2"
    setsid "${args[@]}" >>"$3" 2>&1 </dev/null &' _ "$2" "${3:-0}" "$run/logs/$2-$1.log" 2>/dev/null
}
kubelet_again() {
  again b kubelet 5 && sleep 5 && eventually 60 k wait --for=condition=Ready --timeout=1s node/node-b && agents_ready
}
runtime_again() {
  again b "$(on_crio b && echo crio || echo containerd)" 3 && sleep 10 && eventually 90 k wait --for=condition=Ready --timeout=1s node/node-b && agents_ready
}
api_away() {
  kill -STOP "$(cat "$run/control-apiserver.pid")"
  sleep 25
  kill -CONT "$(cat "$run/control-apiserver.pid")"
  eventually 60 life_written 3 && eventually 60 all_reached
}
lease_gone() {
  system delete lease ballast-leader ballast-global && eventually 60 life_written 3 && eventually 60 all_reached
}
authority_new() {
  local was
  was=$(system get configmap ballast-ca -o jsonpath='{.data.ca\.crt}' | sha256sum)
  system delete secret ballast-ca && system delete configmap ballast-ca || return 1
  eventually 150 authority_is_not "$was" || { echo "the same after 150 s"; return 1; }
  eventually 150 all_reached || { status; return 1; }
}
authority_is_not() {
  local now
  now=$(system get configmap ballast-ca -o jsonpath='{.data.ca\.crt}') && [ -n "$now" ] && [ "$(sha256sum <<<"$now")" != "$1" ] &&
    [ "$(printf %s "$now" | sha256sum)" != "$1" ]
}
drained_and_back() {
  k drain node-b --ignore-daemonsets --delete-emptydir-data --timeout=120s &&
    k -n shop rollout status deploy/life --timeout=120s && k uncordon node-b && sleep 5
}
# On each node the agent leaves maps of another wire version, and a new pod of the DaemonSet finds them.
other_wire_version() {
  local n pod was
  for n in "${nodes[@]}"; do
    pod=$(system get pods -l app=ballastd --field-selector "spec.nodeName=node-$n" -o name)
    # One that runs writes its own version with each tick; stopped, it ends by the kubelet's SIGKILL.
    in_node "$n" sh -c "kill -STOP \$(pgrep -f -- '--role nod[e]')"
    was=$(in_node "$n" python3 "$root/tests/cluster/wire_version.py" /sys/fs/bpf/ballast 5) || return 1
    echo "node-$n: wire version $was, now 5"
    system delete "$pod" --grace-period=0 --force
  done
  agents_ready || return 1
  for n in "${nodes[@]}"; do
    pod=$(system get pods -l app=ballastd --field-selector "spec.nodeName=node-$n" -o name)
    eventually 30 replaced "$pod" || { system logs "$pod" -c ballastd | tail -n 5; return 1; }
    ctl "$n" status -o json | python3 -c 'import json,sys; s = json.load(sys.stdin); print(s["alive"], s["trouble"]); sys.exit(not s["alive"])' || return 1
  done
  eventually 60 life_written 3 && eventually 90 all_reached
}
replaced() { system logs "$1" -c ballastd | grep -F 'maps replaced' | grep -qF 'wire version 5, ours is '; }
# A third node joins, gets an agent and a pod of the Service, and is weighed; then it dies and is taken out.
node_added() {
  local begun=$SECONDS code=0
  tests/cluster/up.sh c && agents_ready && eventually 90 fleet_of 3 || { status; return 1; }
  echo "in the fleet after $((SECONDS - begun)) s"
  k -n shop patch deployment life --type=merge -p '{"spec":{"replicas":4}}' && k -n shop rollout status deploy/life --timeout=120s || code=1
  k -n shop get pods -l app=life -o jsonpath='{.items[*].spec.nodeName}' | grep -q node-c || { echo "no pod on node-c"; code=1; }
  eventually 60 life_written 4 || { echo "four pods are not written"; code=1; }
  k -n shop patch deployment life --type=merge -p '{"spec":{"replicas":3}}'
  k drain node-c --ignore-daemonsets --delete-emptydir-data --timeout=120s && k -n shop rollout status deploy/life --timeout=120s || code=1
  kill -9 "$(init_of c)"
  k delete node node-c --timeout=60s || code=1
  eventually 120 fleet_of 2 && eventually 60 life_written 3 && eventually 90 all_reached || { status; code=1; }
  return $code
}
# All of a node dies at once; it comes back with what its disk holds, and its pods begin anew there. The agent's too, with
# nothing of its own in the kernel.
node_rebooted() {
  local begun=$SECONDS was n
  was=$(k get node node-b -o jsonpath='{.status.nodeInfo.bootID}')
  tests/cluster/up.sh again b || return 1
  eventually 120 booted_anew "$was" && eventually 60 k wait --for=condition=Ready --timeout=1s node/node-b ||
    { k get node node-b -o wide; return 1; }
  echo "the node is ready after $((SECONDS - begun)) s"
  agents_ready && system rollout status deploy/ballast-global --timeout=120s && k -n shop rollout status deploy/life --timeout=120s || return 1
  eventually 60 life_written 3 && eventually 90 all_reached || { status; return 1; }
  for n in "${nodes[@]}"; do eventually 90 well "$n" || { well "$n"; return 1; }; done
  echo "weighed, and its agent and learner are back, after $((SECONDS - begun)) s"
}
well() {
  ctl "$1" status -o json | python3 -c 'import json,sys; s = json.load(sys.stdin); print(s["alive"], s["trouble"]); sys.exit(not s["alive"] or s["trouble"] != "")'
}
booted_anew() { [ "$(k get node node-b -o jsonpath='{.status.nodeInfo.bootID}')" != "$1" ]; }
fleet_of() { status | python3 -c 'import json,sys; sys.exit(json.load(sys.stdin)["fleet"]["nodes"] != int(sys.argv[1]))' "$1"; }
pods_change() {
  k -n shop rollout restart deploy/life && k -n shop rollout status deploy/life --timeout=180s && eventually 60 life_written 3
}
uninstalled() {
  uninstall_job && uninstall_kernel && uninstall_objects
}

# Pods whose programs end at once when they are asked to, which is a race between them and those who tell proxies.
exits_at_once() {
  k -n shop patch deployment life --type=json -p '[{"op":"remove","path":"/spec/template/spec/containers/0/lifecycle"}]' &&
    k -n shop rollout status deploy/life --timeout=180s
}
# An arm: four of six pods go under load, with Ballast (active) or without (off).
scaled_down() {
  local mode=$1 written=0
  [ "$mode" = off ] || written=6
  k -n shop label --overwrite service life "ballast.dev/mode=$mode" && k -n shop scale deploy/life --replicas=6 &&
    k -n shop rollout status deploy/life --timeout=60s && eventually 60 life_written "$written" || return 1
  sleep 3
  start_load life
  k -n shop scale deploy/life --replicas=2 && eventually 60 slices_have 2 || { end_load; return 1; }
  sleep 3
  end_load
  cat "$run/load.json" >>"$run/leave-$mode"
}
slices_have() {
  [ "$(k -n shop get endpointslices -l kubernetes.io/service-name=life -o json | python3 -c '
import json, sys
print(sum(e["conditions"]["ready"] for s in json.load(sys.stdin)["items"] for e in s["endpoints"] or []))')" -eq "$1" ]
}
# Nine pairs of the same Service with Ballast and without; who is first takes turns.
scaled_down_in_pairs() {
  local i mode modes=(off active)
  rm -f "$run"/leave-{off,active}
  for ((i = 1; i <= 9; i++)); do
    for mode in "${modes[@]}"; do scaled_down "$mode" || return 1; done
    modes=("${modes[1]}" "${modes[0]}")
  done
  no_worse "$run/leave-active" life "$run/leave-off" life
}
# Beside the controllers and kubelets of a real cluster.
leave() {
  check "istiod and an Envoy that it tells of the cluster" tests/cluster/mesh.sh
  k apply -f tests/cluster/manifests/life.yaml >/dev/null
  check "mode active" acts
  check "an opted-in Service has weights in Envoy" eventually 90 life_weighted
  check "its pods exit at once from now on" exits_at_once
  # As many a second as that client brings about.
  RATE=300 shown "four of six pods go at once, nine interleaved pairs: no more fails than without Ballast, beyond luck" \
    lucky scaled_down_in_pairs
}

life() {
  check "istiod and an Envoy that it tells of the cluster" tests/cluster/mesh.sh
  k apply -f tests/cluster/manifests/life.yaml >/dev/null
  check "mode active" acts
  check "an opted-in Service has weights in Envoy" eventually 90 life_weighted
  check "under load: all pods are replaced" under_load pods_change
  check "under load: the DaemonSet is upgraded and rolled back" under_load upgraded_and_back
  check "under load: the kubelet of a node is restarted" under_load kubelet_again
  check "under load: the container runtime of a node is restarted" under_load runtime_again
  check "under load: the API server does not answer for 25 s" under_load api_away
  check "under load: the writer is killed" under_load writer_moves
  check "under load: both replicas are killed" under_load both_killed
  check "under load: both Leases are deleted" under_load lease_gone
  shown "under load: no writer lives, and comes back" under_load nodes_hand_back
  check "under load: the authority's key is thrown away" under_load authority_new
  shown "under load: a token is revoked" under_load token_revoked
  check "under load: a node is drained, and comes back" under_load drained_and_back
  shown "under load: a node is rebooted" lucky under_load node_rebooted
  check "under load: the agents find maps of another wire version" under_load other_wire_version
  shown "under load: a node is added, and dies" under_load node_added
  check "under load: uninstalled" under_load uninstalled
}
