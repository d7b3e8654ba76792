# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/run foreign | unequal: pods behind real sidecars (istio.sh).

# in_pod NODE ADDRESS COMMAND...: in the network namespace of the pod that has the address.
in_pod() {
  local node=$1 address=$2
  shift 2
  in_node "$node" bash -c '
    address=$1
    shift
    for each in /run/netns/*; do
      if nsenter --net="$each" ip -4 -o addr show dev eth0 2>/dev/null | grep -qF " $address/"; then exec nsenter --net="$each" "$@"; fi
    done
    echo "no pod of this node has $address" >&2
    exit 1' _ "$address" "$@"
}
address_of() { k -n "$1" get pod "$2" -o jsonpath='{.status.podIP}'; }
service_ip() { k -n "$1" get service "$2" -o jsonpath='{.spec.clusterIP}'; }
# as_client NAMESPACE COMMAND...: in the client's pod, so that the sidecar there takes what it sends.
as_client() {
  local ip
  ip=$(address_of "$1" client) || return 1
  shift
  in_pod a "$ip" "$@"
}
mesh_up() { tests/cluster/istio.sh; }
active() {
  k apply -k deploy/daemonset/overlays/active && system rollout status deploy/ballast-global --timeout=120s && agents_ready
}
# weight_of NAMESPACE SERVICE: ADDRESS WEIGHT, as the client's sidecar has them.
in_sidecar() {
  as_client "$1" curl -fsS -m 3 'http://127.0.0.1:15000/clusters?format=json' | python3 -c '
import json, sys
for c in json.load(sys.stdin)["cluster_statuses"]:
    if c["name"] == f"outbound|80||{sys.argv[1]}.svc.cluster.local":
        for h in c.get("host_statuses", []):
            print(h["address"]["socket_address"]["address"], h.get("weight", 1))' "$2.$1"
}
weighted_in_sidecar() { # NAMESPACE SERVICE COUNT
  [ "$(in_sidecar "$1" "$2" | awk '$2 > 1' | wc -l)" -eq "$3" ]
}

foreign_up() {
  k apply -f tests/cluster/manifests/foreign.yaml && cp tests/cluster/manifests/static.yaml "$run/node-a/static/" &&
    k -n foreign wait --for=condition=Ready --timeout=120s pod/client pod/of-the-host pod/two &&
    eventually 60 k -n foreign wait --for=condition=Ready --timeout=1s pod/static-node-a pod/stateful-0 &&
    k -n foreign wait --for=condition=Ready --timeout=60s pod -l kind=job &&
    k -n foreign rollout status deploy/podinfo-large --timeout=60s && k -n foreign rollout status deploy/podinfo-small --timeout=60s || return 1
  [ "$(k -n foreign get pods -l app=podinfo -o jsonpath='{.items[*].spec.initContainers[*].name}' | grep -o istio-proxy | wc -l)" -eq 2 ]
}
# foreign_rows [NAMESPACE]: of all nodes' agents, lines of NODE/NAMESPACE/POD/CONTAINER/SERVICE COUNT, of what serves.
foreign_rows() {
  local n
  for n in "${nodes[@]}"; do
    ctl "$n" -o json requests | NODE=node-$n python3 -c '
import json, os, sys
rows = {}
for r in json.load(sys.stdin):
    if r["role"] == "server" and r["namespace"] == sys.argv[1]:
        key = "/".join((os.environ["NODE"], r["namespace"], r["pod"], r["container"], r["service"]))
        rows[key] = rows.get(key, 0) + r["requests"]
for key, count in rows.items():
    print(key, count)' "${1:-foreign}"
  done
}
# What a podinfo counted of /api/info itself.
podinfo_counted() {
  in_control curl -fsS -m 3 "http://$1:9898/metrics" |
    awk '/^http_request_duration_seconds_count\{method="GET",path="api_info",status="200"\}/ {n = $2} END {print n + 0}'
}
podinfo_pods() { k -n foreign get pods -l app=podinfo -o jsonpath='{range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\n"}{end}'; }
podinfo_own() { podinfo_pods | while read -r pod node ip; do echo "$node/foreign/$pod/podinfo/podinfo $(podinfo_counted "$ip")"; done; }
foreign_counts() {
  local own_before own_after before after client
  own_before=$(podinfo_own)
  sleep 1
  before=$(foreign_rows)
  client=$(as_client foreign h2load --h1 -n "$1" -c 16 --connect-to="$(service_ip foreign podinfo):80" \
    http://podinfo.foreign.svc.cluster.local/api/info | grep -E '^requests:') || return 1
  sleep 2
  after=$(foreign_rows)
  own_after=$(podinfo_own)
  echo "$client"
  python3 - "$1" "$client" "$before" "$after" "$own_before" "$own_after" <<'P'
import re
import sys

def rows(text):
    return {line.split()[0]: int(float(line.split()[1])) for line in text.splitlines()}

wanted, client, before, after, own_before, own_after = int(sys.argv[1]), sys.argv[2], *map(rows, sys.argv[3:])
ours = {k: v - before.get(k, 0) for k, v in after.items() if '/podinfo-' in k and k.split('/')[3] == 'podinfo' and v != before.get(k, 0)}
own = {k: v - own_before[k] for k, v in own_after.items() if v != own_before[k]}
succeeded = int(re.search(r'(\d+) succeeded', client).group(1))
print('agents', ours, 'podinfo', own, 'client', succeeded)
sys.exit(not (ours == own and sum(own.values()) == succeeded == wanted))
P
}
# Of each kind of pod, asked at its own address: who it is, and how often.
kinds() {
  local asked=25 job before after rows=() address port key
  job=$(k -n foreign get pods -l kind=job -o jsonpath='{.items[0].metadata.name}')
  # What its programs are to be known as, and where they listen.
  rows=("node-b/foreign/stateful-0/podinfo/kinds $(address_of foreign stateful-0) 9898"
    "node-a/foreign/$job/podinfo/kinds $(address_of foreign "$job") 9898"
    "node-a/foreign/static-node-a/podinfo/kinds $(address_of foreign static-node-a) 9898"
    "node-b/foreign/of-the-host/podinfo/kinds ${node_ip[b]} 9897"
    "node-a/foreign/two/podinfo/kinds $(address_of foreign two) 9898"
    "node-a/foreign/two/second/kinds $(address_of foreign two) 9895"
    "node-a/foreign/two/stays/kinds $(address_of foreign two) 9896")
  before=$(foreign_rows)
  for row in "${rows[@]}"; do
    read -r key address port <<<"$row"
    in_control h2load --h1 -n "$asked" -c 1 "http://$address:$port/api/info" | grep -q "$asked succeeded" || { echo "not answered: $row"; return 1; }
  done
  sleep 2
  after=$(foreign_rows)
  printf '%s\n' "${rows[@]}" | cut -d' ' -f1 | python3 -c '
import sys
def rows(text):
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}
asked, before, after = int(sys.argv[1]), rows(sys.argv[2]), rows(sys.argv[3])
wanted = {line.strip(): asked for line in sys.stdin}
# What a sidecar takes for its pod it serves as well.
seen = {k: v - before.get(k, 0) for k, v in after.items() if "/podinfo-" not in k and "/istio-proxy/" not in k and v != before.get(k, 0)}
for key in sorted(wanted.keys() | seen.keys()):
    print(key, "counted", seen.get(key, 0), "asked", wanted.get(key, 0))
sys.exit(seen != wanted)' "$asked" "$before" "$after"
}
hotrod_up() {
  k apply -f tests/cluster/manifests/hotrod.yaml && k -n hotrod wait --for=condition=Ready --timeout=120s pod --all
}
dispatches() { # dispatches COUNT: a customer's each, which asks frontend, customer, driver, and route ten times
  as_client hotrod h2load --h1 -n "$1" -c 4 --connect-to="$(service_ip hotrod frontend):80" \
    'http://frontend.hotrod.svc.cluster.local/dispatch?customer=123&nonse=0.1' | grep -E '^(requests|status codes):'
}
hotrod_counts() {
  local before after said
  before=$(foreign_rows hotrod)
  said=$(dispatches "$1") || return 1
  sleep 2
  after=$(foreign_rows hotrod)
  echo "$said"
  # HotROD's driver makes its store time out at times; what frontend answers then is a 500.
  python3 - "$1" "$said" "$before" "$after" <<'P'
import re
import sys

def rows(text):
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}

asked, said, before, after = int(sys.argv[1]), sys.argv[2], *map(rows, sys.argv[3:])
good = int(re.search(r'(\d+) 2xx', said).group(1))
ours = {tuple(k.split('/')): v - before.get(k, 0) for k, v in after.items() if k.split('/')[3] == 'hotrod'}
print('agents', ours, 'dispatched', good)
route = [v for k, v in ours.items() if k[4] == 'route']
sys.exit(not (ours.get(('node-b', 'hotrod', 'frontend', 'hotrod', 'frontend')) == asked and
              ours.get(('node-a', 'hotrod', 'customer', 'hotrod', 'customer')) == asked and
              ours.get(('node-b', 'hotrod', 'driver', 'hotrod', 'driver'), 0) >= good and
              len(route) == 2 and min(route) > 0 and sum(route) >= 10 * good and good >= 0.5 * asked))
P
}
# The whole live, until Ctrl-C or for so many seconds.
show() {
  check "Istio, by its chart: istiod injects" mesh_up
  check "mode active" active
  check "HotROD over two nodes, with sidecars" hotrod_up
  [ "$failed" -eq 0 ] || return 0
  (while dispatches 200 >/dev/null 2>&1; do :; done) &
  local load=$! end=$((SECONDS + ${BALLAST_CLUSTER_SHOWN:-1000000})) n
  while [ "$SECONDS" -lt "$end" ]; do
    sleep 2
    printf '\n%s  what serves on each node, and why route is weighed as it is\n' "$(date +%T)"
    for n in "${nodes[@]}"; do
      echo "node-$n"
      ctl "$n" requests | awk 'NR == 1 || /hotrod/' || true
    done
    writer explain hotrod/route | grep -E '^hotrod|^  (Measured|CPU|Why|Outcome):' || true
  done
  kill "$load"
  check "route's pods are weighed in the client's sidecar" weighted_in_sidecar hotrod route 2
}
foreign() {
  check "Istio, by its chart: istiod injects" mesh_up
  check "mode active" active
  check "podinfo as a Deployment, StatefulSet, Job, static pod, of the host's network, of two containers" foreign_up
  check "both pods of podinfo have weights in the client's sidecar" eventually 90 weighted_in_sidecar foreign podinfo 2
  check "10,000 requests through the sidecar are counted as podinfo and the client count them" foreign_counts 10000
  check "each kind of pod is known by node, namespace, pod, container and Service, and counted" kinds
  check "HotROD over two nodes, with sidecars" hotrod_up
  check "40 dispatches are counted at frontend, customer, driver and route's two pods" hotrod_counts 40
  check "both pods of route have weights in the client's sidecar" eventually 60 weighted_in_sidecar hotrod route 2
}

lab_rate=280  # a second; by 2 ms of CPU time each 70 % of what the four pods may use
unequal_up() {
  k apply -f tests/cluster/manifests/unequal.yaml && k -n unequal wait --for=condition=Ready --timeout=120s pod --all
}
# unequal_load SERVICE SECONDS WARM-UP SEED [gateway]: a line of JSON; through the client's sidecar, or the ingress gateway.
unequal_load() {
  local load=$root/build/release/bin/tests/ballast_cluster_load
  if [ "${5:-}" = gateway ]; then
    in_control "$load" "$(address_of unequal gateway)" 8080 "$1.example" "$lab_rate" "$2" "$3" "$4" 2
  else
    as_client unequal "$load" "$(service_ip unequal "$1")" 80 "$1.unequal.svc.cluster.local" "$lab_rate" "$2" "$3" "$4" 2
  fi
}
# Each pod by what its own node measured: an agent reads the CPU limit of no pod that is not on its node.
unequal_explained() {
  unequal_load web 12 0 99 >/dev/null || return 1
  writer explain unequal/web -o json | python3 -c '
import json, sys
limits = {"web-1": 0.4, "web-2": 0.2, "web-3": 0.1, "web-4": 0.1}
rows = {r["pod"]: r for r in json.load(sys.stdin)}
for pod, r in sorted(rows.items()):
    print(pod, "weight", r["in_force"], r["why"], r["measured"])
sys.exit(not (rows.keys() == limits.keys() and all(abs(r["measured"]["cpu_limit_cores"] - limits[p]) < 1e-6 for p, r in rows.items())))'
}
# Through an ingress gateway, of the other node than the client: no request fails, and it weighs as the sidecar does.
unequal_gateway() {
  local ip said
  k apply -f tests/cluster/manifests/gateway.yaml && k -n unequal wait --for=condition=Ready --timeout=120s pod/gateway || return 1
  ip=$(address_of unequal gateway)
  eventually 60 in_control curl -fsS -m 3 -H 'Host: web.example' "http://$ip:8080/work?us=100" || return 1
  said=$(in_control h2load --h1 -n 600 -c 4 --rps=20 --connect-to="$ip:8080" 'http://web.example:8080/work?us=2000' | grep -E '^(requests|status codes):')
  echo "$said"
  grep -q '600 2xx' <<<"$said" || return 1
  in_pod b "$ip" curl -fsS -m 3 'http://127.0.0.1:15000/clusters?format=json' | python3 -c '
import json, sys
for c in json.load(sys.stdin)["cluster_statuses"]:
    if c["name"] == "outbound|80||web.unequal.svc.cluster.local":
        found = {h["address"]["socket_address"]["address"]: (h.get("weight", 1), [s.get("value") for s in h["stats"] if s["name"] == "rq_total"]) for h in c["host_statuses"]}
        print(found)
        sys.exit(not (len(found) == 4 and all(w > 1 for w, _ in found.values())))
sys.exit(1)'
}
# Beside much else the pods get less than their limits, and look alike. The cluster itself makes a load of some four.
not_quiet() {
  awk -v most="$((4 * $(nproc)))" '{if ($1 > most) print "the machine is too busy to measure on: a load of " $1; exit !($1 > most)}' /proc/loadavg
}
unequal_pairs() { # unequal_pairs [gateway]
  not_quiet && return 77
  local pairs=${BALLAST_CLUSTER_PAIRS:-5} seconds=${BALLAST_CLUSTER_SECONDS:-16} pair arm arms
  : >"$run/pairs"
  # What a proxy does the first time, its certificates and connections, is neither arm's.
  for arm in plain web; do unequal_load "$arm" 4 0 98 "${1:-}" >/dev/null || return 1; done
  for ((pair = 1; pair <= pairs; pair++)); do
    arms=(plain web)
    [ $((pair % 2)) -eq 1 ] || arms=(web plain)
    for arm in "${arms[@]}"; do
      echo "$pair $arm $(unequal_load "$arm" "$seconds" 4 "$pair" "${1:-}")" >>"$run/pairs"
      # Why weights are what they are, for whoever reads of a pair that went wrong.
      [ "$arm" = plain ] || writer explain unequal/web -o json | PAIR=$pair python3 -c '
import json, os, sys
rows = json.load(sys.stdin)
print("pair", os.environ["PAIR"], "weights", *(str(r["in_force"]) for r in rows), "because", rows[0]["why"])'
    done
  done
  python3 - "$run/pairs" <<'P'
import json
import math
import statistics
import sys

arms = {}
for line in open(sys.argv[1]):
    pair, arm, row = line.split(' ', 2)
    arms.setdefault(int(pair), {})[arm] = json.loads(row)
ratios, failed = [], {'web': 0, 'plain': 0}
for pair, both in sorted(arms.items()):
    ratios.append(both['web']['p99_ms'] / both['plain']['p99_ms'])
    for arm in failed:
        failed[arm] += both[arm]['failed']
    print(f'pair {pair}: plain Istio {both["plain"]}, Ballast {both["web"]}: p99 {ratios[-1]:.3f}')
logs = [math.log(r) for r in ratios]
mean = statistics.mean(logs)
# Student's t, two-sided 95 %.
t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}.get(len(logs), 2.2)
half = t * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
print(f'p99 of Ballast over plain Istio, {len(logs)} pairs: {math.exp(mean):.3f} [{math.exp(mean - half):.3f}, {math.exp(mean + half):.3f}], '
      f'failed {failed["web"]} and {failed["plain"]}')
if failed['plain']:
    print(f'the machine is too busy to compare on: plain Istio lost {failed["plain"]} requests, at 70 % of what its pods can carry')
    sys.exit(77)
sys.exit(not (math.exp(mean) <= 0.45 and not failed['web']))
P
}
# The largest pod's quota is halved while it is asked: when its weight in the sidecar moves, and when it is where it ends.
unequal_follows() {
  not_quiet && return 77
  local ip
  ip=$(address_of unequal web-1) || return 1
  unequal_load web 40 0 77 >"$run/follow.load" &
  local load=$!
  sleep 8
  in_pod a "$(address_of unequal client)" python3 "$root/tests/cluster/follow.py" "$ip" "outbound|80||web.unequal.svc.cluster.local" \
    "$(limit_of a "$(k -n unequal get pod web-1 -o jsonpath='{.status.containerStatuses[?(@.name=="web")].containerID}')")" 3
  local code=$?
  wait "$load"
  cat "$run/follow.load"
  grep -q '"failed": 0,' "$run/follow.load" || { echo "the machine is too busy: requests failed at 70 % of what the pods can carry"; return 77; }
  return $code
}
# limit_of NODE CONTAINER-ID: the file of its CPU quota, of either version of cgroups. Its sidecar has a quota as well.
limit_of() {
  in_node "$1" bash -c '
    for folder in $(find /sys/fs/cgroup -maxdepth 6 -type d -name "*$1*" ! -name "*conmon*"); do
      for file in "$folder"/cpu.cfs_quota_us "$folder"/cpu.max; do
        [ ! -e "$file" ] || grep -qE "^(-1|max)" "$file" || { echo "$file"; exit 0; }
      done
    done' _ "${2#*//}"
}
unequal() {
  check "Istio, by its chart: istiod injects" mesh_up
  check "mode active" active
  check "four unequal pods over two nodes, and a client, with sidecars" unequal_up
  check "all four have weights in the client's sidecar" eventually 90 weighted_in_sidecar unequal web 4
  shown "explain: each pod, also of the other node, is weighed by what its own node measured" unequal_explained
  check "through an ingress gateway: its weights, and no request fails" unequal_gateway
  shown "weights follow a halved quota within 2 s" unequal_follows
  shown "p99 at most 0.45 of plain Istio's, in interleaved pairs" unequal_pairs
  shown "and so through the ingress gateway" unequal_pairs gateway
}
