# SPDX-License-Identifier: Apache-2.0
#
# What tests/cluster/run checks; each a function that says what is wrong and fails.

agents_ready() { system rollout status ds/ballastd --timeout="${1:-240}s"; }
leader() {
  local holder
  holder=$(system get lease ballast-global -o jsonpath='{.spec.holderIdentity}') && [ -n "$holder" ] &&
    echo "${holder%_*}"
}
published_authority() { system get configmap ballast-ca -o jsonpath='{.data.ca\.crt}' | openssl x509 -noout -subject; }
# The leader's own status, from its operations port.
status() {
  local ip
  ip=$(system get pod "$(leader)" -o jsonpath='{.status.podIP}') || return 1
  in_control curl -fsS -m 3 "http://$ip:7701/status"
}
all_reached() {
  status | python3 -c '
import json, sys
s = json.load(sys.stdin)
print({k: s.get(k) for k in ("leader", "epoch", "version", "streams", "fleet")})
sys.exit(not (s["leader"] and s["fleet"]["nodes"] == 2 and s["streams"] >= 6))'
}
fleet_knows() {
  status | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(s["fleet"])
sys.exit(s["fleet"]["endpoints"] < int(sys.argv[1]))' "$1"
}
never_restarted() {
  local counts
  counts=$(system get pods -o jsonpath='{range .items[*].status.containerStatuses[*]}{.name}={.restartCount} {end}')
  echo "$counts"
  ! grep -qE '=[1-9]' <<<"$counts"
}

# What nginx itself counted, by pod: NAME COUNT.
own_counts() {
  k -n shop get pods -l app=web -o jsonpath='{range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}' |
    while read -r pod ip; do
      echo "$pod $(in_control curl -fsS -m 3 "http://$ip:8080/count" | awk 'NR == 3 {print $3}')"
    done
}
# What the agents counted: a JSON list a node.
agent_counts() { for n in "${nodes[@]}"; do ctl "$n" -o json requests web | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)))'; done; }
counts() {
  local ip before after own_before own_after
  ip=$(k -n shop get service web -o jsonpath='{.spec.clusterIP}')
  own_before=$(own_counts)
  sleep 1
  before=$(agent_counts)
  in_node a h2load --h1 -n "$1" -c 16 "http://$ip/" | grep -E '^requests:' || return 1
  sleep 2
  after=$(agent_counts)
  own_after=$(own_counts)
  BEFORE=$before AFTER=$after OWN_BEFORE=$own_before OWN_AFTER=$own_after \
    PLACES=$(k -n shop get pods -l app=web -o jsonpath='{range .items[*]}{.metadata.name} {.spec.nodeName}{"\n"}{end}') \
    python3 - "$1" <<'P'
import json
import os
import sys

def agents(name):
    out = {}
    for node, line in zip('ab', os.environ[name].splitlines()):
        for row in json.loads(line):
            if row['role'] == 'server':
                key = (f'node-{node}', row['namespace'], row['pod'], row['container'], row['service'])
                out[key] = out.get(key, 0) + row['requests']
    return out

def own(name):
    return {line.split()[0]: int(line.split()[1]) for line in os.environ[name].splitlines()}

before, after = agents('BEFORE'), agents('AFTER')
places = dict(line.split() for line in os.environ['PLACES'].splitlines())
ours = {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}
# The last question for the count is one itself.
theirs = {p: n - own('OWN_BEFORE')[p] - 1 for p, n in own('OWN_AFTER').items()}
wanted = {(places[p], 'shop', p, 'nginx', 'web'): n for p, n in theirs.items() if n}
print('agents', ours, 'nginx', wanted)
sys.exit(not (ours == wanted and sum(theirs.values()) == int(sys.argv[1])))
P
}

# Learners that are no agent's: with another account's token, and with one for the API server.
hostile() {
  local ip pod
  pod=$(leader)
  system get pods -l app=ballastd --field-selector spec.nodeName=node-a -o name >/dev/null || return 1
  local before after
  before=$(status | python3 -c 'import json,sys; print(json.load(sys.stdin)["fleet"]["nodes"])')
  system get configmap ballast-ca -o json | python3 -c 'import json,sys; o = json.load(sys.stdin); o["metadata"] = {"name": "ballast-ca", "namespace": "shop"}; print(json.dumps(o))' | k apply -f - >/dev/null
  k apply -f tests/cluster/manifests/hostile.yaml >/dev/null
  eventually 120 k -n shop wait --for=condition=Ready --timeout=1s pod/hostile || { k -n shop describe pod hostile; return 1; }
  local said
  hostile_refused() {
    said=$(k -n shop logs hostile --all-containers)
    [[ $said == *"token refused: it is of system:serviceaccount:shop:default"* &&
      $said == *"token refused: it is no token for ballast"* ]]
  }
  eventually 60 hostile_refused || { echo "$said"; return 1; }
  sleep 8  # what it would have reached by now
  after=$(status | python3 -c 'import json,sys; s = json.load(sys.stdin); print(s["fleet"]["nodes"])')
  said=$(k -n shop logs hostile --all-containers)
  echo "$said"
  [[ $said != *" reached "* ]] || return 1
  k -n shop delete pod hostile --wait=false >/dev/null
  echo "nodes before $before, after $after, leader $pod"
  [ "$before" = "$after" ]
}

scraped() {
  local ip n
  for n in $(system get pods -l app=ballastd -o jsonpath='{.items[*].status.podIP}'); do
    [[ $(in_control curl -fsS -m 5 "http://$n:9464/metrics") == *ballast_* ]] || { echo "nothing at $n"; return 1; }
  done
  ip=$(system get pod "$(leader)" -o jsonpath='{.status.podIP}')
  [[ $(in_control curl -fsS -m 5 "http://$ip:7701/metrics") == *"ballast_global_leader 1"* ]]
}

# An overlay of the user's, with one key changed.
configuration_rolls() {
  local folder=build/cluster/changed before after
  mkdir -p "$folder"
  cat >"$folder/kustomization.yaml" <<'K'
resources: [../../../deploy/daemonset/overlays/shadow]
patches:
  - target: {kind: ConfigMap, name: ballast}
    patch: |
      - op: replace
        path: /data/ballastd.yaml
        value: |
          bpffs: /sys/fs/bpf/ballast
          identity: kubernetes
          sink: istio
          tick_ms: 300
          metrics: 0.0.0.0:9464
          metrics_beyond_loopback: true
          policy: {name: learned}
          learner: {socket: "unix:/run/ballast/learner.sock"}
          fleet:
            remote: dns:///ballast-global.ballast-system.svc:7700
            tls_ca: /etc/ballast-ca/ca.crt
            token_file: /var/run/secrets/ballast/token
K
  before=$(system get pods -l app=ballastd -o jsonpath='{.items[*].metadata.uid}')
  k apply -k "$folder" || return 1
  agents_ready || return 1
  after=$(system get pods -l app=ballastd -o jsonpath='{.items[*].metadata.uid}')
  echo "$before -> $after"
  [ "$before" != "$after" ] && eventually 60 all_reached
}

# What each container of ours on a node holds and held at most, and its limit, as its cgroup has them, in MB:
# NODE/POD/CONTAINER NOW MOST LIMIT.
memory_of_ours() {
  system get pods -o json | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["items"]:
    for c in pod["status"].get("containerStatuses", []):
        if "running" in c["state"]:
            print(pod["spec"]["nodeName"], pod["metadata"]["name"], c["name"], c["containerID"].split("//")[1])' |
    while read -r node pod container id; do
      in_node "${node#node-}" bash -c '
        mb() { [ "$(cat "$1")" = max ] && echo none || echo $(($(cat "$1") >> 20)); }
        for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
          folder=$(find "$root" -maxdepth 6 -type d -name "*$2*" ! -name "*conmon*" 2>/dev/null | head -n 1)
          [ -n "$folder" ] || continue
          if [ -e "$folder/memory.usage_in_bytes" ]; then
            echo "$1 $(mb "$folder/memory.usage_in_bytes") $(mb "$folder/memory.max_usage_in_bytes") $(mb "$folder/memory.limit_in_bytes")"
          else
            echo "$1 $(mb "$folder/memory.current") $(mb "$folder/memory.peak") $(mb "$folder/memory.max")"
          fi
          break
        done' _ "$node/$pod/$container" "$id" </dev/null
    done
}
# in_container NODE POD COMMAND...: as a process of a pod of shop, in its cgroups and its network.
in_container() {
  local node=$1 id ip
  id=$(k -n shop get pod "$2" -o jsonpath='{.status.containerStatuses[0].containerID}') && ip=$(address_of shop "$2") || return 1
  shift 2
  in_pod "$node" "$ip" bash -c '
    for folder in $(find /sys/fs/cgroup -maxdepth 6 -type d -name "*$1*" ! -name "*conmon*"); do echo $$ >"$folder/cgroup.procs" || true; done
    shift
    exec "$@"' _ "${id#*//}" "$@"
}
# A pod that opens 15,000 connections to itself and says nothing on them but HTTP/2's preface: what the kernel keeps of
# them is charged to the agent, and stays within what its manifest gives it.
memory_attacked() {
  local attack code=0 now most limit pod
  k apply -f tests/cluster/manifests/attacker.yaml >/dev/null &&
    eventually 60 k -n shop wait --for=condition=Ready --timeout=1s pod/attacker || { k -n shop describe pod attacker; return 1; }
  rm -f "$run/attack.in"
  mkfifo "$run/attack.in"
  in_container a attacker python3 "$root/tools/bench/hostile" --attack idle --size 15000 --group / <"$run/attack.in" >"$run/attack.said" 2>&1 &
  attack=$!
  exec 7>"$run/attack.in"
  # It says how long it took once all are there.
  eventually 60 grep -qE '^[0-9.]+$' "$run/attack.said" || { cat "$run/attack.said"; code=1; }
  sleep 3
  # Also an agent that begins anew, on maps that hold all that. They stay charged to the one that made them, so what is
  # shown of the new one is that it starts and what it takes itself.
  for pod in '' "$(system get pods -l app=ballastd --field-selector spec.nodeName=node-a -o name)"; do
    [ -z "$pod" ] || { system delete "$pod" && agents_ready && eventually 90 all_reached; } || code=1
    never_restarted || code=1
    memory_of_ours | tee "$run/memory"
    read -r _ now most limit <<<"$(grep -E '^node-a/ballastd-[^/]*/ballastd ' "$run/memory")"
    echo "node-a's agent, beside 15,000 silent connections: $now MB, $most at most, of $limit"
    [ -n "$most" ] && [ "$most" -lt 128 ] || code=1
    awk 'NF != 4 || $3 >= $4 {print "at its limit: " $0; bad = 1} END {exit bad || NR < 8}' "$run/memory" || code=1
  done
  ctl a loss | tee "$run/loss" | grep attacker || { cat "$run/loss"; echo "nobody is named"; code=1; }
  exec 7>&-
  wait "$attack" || true
  k -n shop delete pod attacker --wait=false >/dev/null
  counts 1000 || code=1
  return $code
}

epoch_and_version() { status | python3 -c 'import json,sys; s = json.load(sys.stdin); print(s["epoch"], s["version"])'; }
# The same once somebody leads: the former leader may have died with the writer beside it.
settled() { eventually 60 epoch_and_version && epoch_and_version; }
leads_anew() { # leads_anew FORMER-EPOCH FORMER-VERSION
  local now
  now=$(epoch_and_version) || return 1
  [ "${now% *}" -gt "$1" ] && [ "${now#* }" -ge "$2" ]
}
leader_killed() {
  local was former
  was=$(settled) || return 1
  former=$(leader)
  system delete pod "$former" --grace-period=0 --force
  # shellcheck disable=SC2086
  eventually 60 leads_anew $was || { epoch_and_version; return 1; }
  echo "$former: $was, then $(leader): $(epoch_and_version)"
  eventually 60 all_reached
}
both_killed() {
  local was
  was=$(settled) || return 1
  system delete pod -l app=ballast-global --grace-period=0 --force
  # shellcheck disable=SC2086
  eventually 90 leads_anew $was || { epoch_and_version; return 1; }
  eventually 90 all_reached
}
lease_deleted() {
  system delete lease ballast-global
  eventually 60 all_reached
}
node_killed() {
  system delete pod -l app=ballastd --field-selector spec.nodeName=node-b --grace-period=0 --force
  agents_ready && eventually 90 all_reached
}

uninstall_job() {
  k apply -k deploy/daemonset/uninstall && system wait --for=condition=complete job/ballast-release --timeout=120s
}
in_kernel() {
  local n
  for n in "${nodes[@]}"; do
    in_node "$n" sh -c 'ls -d /sys/fs/bpf/ballast 2>/dev/null' | sed "s/^/node-$n /"
  done
}
uninstall_kernel() {
  agents_ready 180 || return 1
  in_kernel
  [ -z "$(in_kernel)" ]
}
ours_in_the_api() {
  k get clusterroles,clusterrolebindings,priorityclasses -l app.kubernetes.io/part-of=ballast -o name
  k get namespaces -o name | grep ballast-system
  k get serviceentries,virtualservices -A -l app.kubernetes.io/managed-by=ballast -o name
}
uninstall_objects() {
  k delete -k deploy/daemonset/uninstall --wait=false && k delete -k deploy/daemonset/overlays/active --ignore-not-found --timeout=120s || return 1
  eventually 60 test -z "$(ours_in_the_api)"
  ours_in_the_api
  [ -z "$(ours_in_the_api)" ]
}

nothing_left() { [ -z "$(in_kernel)$(ours_in_the_api)" ]; }
# The whole by one command, with nothing done before: agents that end take their programs along, and what the writer
# wrote goes with its role.
plain_uninstall() {
  local before
  # Something is there, so that its absence says something.
  k -n shop label service web ballast.dev/mode=active --overwrite
  k apply -k deploy/daemonset/overlays/active && agents_ready && eventually 120 writes 2 || return 1
  before=$(in_kernel)
  [ "$(wc -l <<<"$before")" -eq ${#nodes[@]} ] || { echo "in the kernels before: $before"; return 1; }
  # As a node that is rolled, and one whose pod ends by force, which takes its token along: these leave the programs.
  system rollout restart ds/ballastd && agents_ready || return 1
  system delete pod -l app=ballastd --field-selector spec.nodeName=node-b --grace-period=0 --force && agents_ready || return 1
  ! system logs -l app=ballastd -c ballastd --tail=-1 | grep 'adopted=false' || { echo "an agent unloaded that has a successor"; return 1; }
  system logs -f -l app=ballastd -c ballastd --tail=0 >"$run/last_words" 2>/dev/null &
  k delete -k deploy/daemonset/overlays/active --timeout=120s || return 1
  eventually 60 nothing_left
  kill %% 2>/dev/null
  grep -E 'unloaded|programs stay' "$run/last_words"
  in_kernel
  ours_in_the_api
  nothing_left
}

uninstall() { shown "uninstall: kubectl delete -k alone leaves nothing, in the kernels and in the API" plain_uninstall; }

# The definitions of foreign objects that manifests of ours may have: OpenShift's constraints, Prometheus's operator.
crds() {
  local module file
  for file in openshift/api/payload-manifests/crds/0000_03_config-operator_01_securitycontextconstraints.crd.yaml \
    prometheus-operator/prometheus-operator/example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml; do
    module=github.com/$(cut -d/ -f1,2 <<<"$file")
    module=$( (cd tests/cluster/modules/crds && GOFLAGS=-mod=readonly GOWORK=off go mod download -json "$module") |
      sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p') || { echo "$module is not to be had"; return 77; }
    k apply --server-side -f "$module/$(cut -d/ -f3- <<<"$file")" || return 1
  done
}
# Overlays with components, as a user would write them: the API server takes them, and OpenShift's constraints let the
# pods in, also those of the uninstallation.
components_taken() {
  crds || return
  local folder=build/cluster/components
  mkdir -p "$folder"
  printf '%s\n' 'resources: [../../../deploy/daemonset/overlays/active]' \
    'components: [../../../deploy/daemonset/components/openshift, ../../../deploy/daemonset/components/pod-monitor]' \
    >"$folder/kustomization.yaml"
  k kustomize "$folder" >"$folder/all.yaml" && k apply --dry-run=server -f "$folder/all.yaml" || return 1
  { cat "$folder/all.yaml" && echo --- && k kustomize deploy/daemonset/uninstall; } | tests/cluster/scc.py
}

chart=deploy/helm/ballast
helm_lint() {
  helm lint "$chart" || return 1
  local values
  for values in mode=wrong image.registry= global.replicas=0 global.canaryPercent=90 unknown=1 certificates.secret=Not/a/name config.role=both \
    config.mode=active metrics.enabled=false,metrics.podMonitor=true learner.enabled=perhaps networkPolicy.dnsPorts=53; do
    ! helm template x "$chart" --kube-version 1.36.1 --set "$values" >/dev/null || { echo "taken: $values"; return 1; }
  done
}
helm_dry_run() {
  local values
  crds || return
  for values in mode=shadow mode=active mode=off learner.enabled=false image.registry=registry.example/ours \
    metrics.enabled=false networkPolicy.enabled=false certificates.secret=mine mode=uninstall \
    learner.enabled=false,config.policy.name=prior global.canaryPercent=20 metrics.podMonitor=true \
    openshift=true openshift=true,certificates.secret=mine openshift=true,mode=uninstall; do
    helm template ballast "$chart" --kube-version 1.36.1 --namespace shop --set "$values" >"$run/manifests.yaml" &&
      k apply --dry-run=server -f "$run/manifests.yaml" || return 1
    [[ $values != openshift* ]] || tests/cluster/scc.py <"$run/manifests.yaml" || return 1
  done
}
helm_install() {
  k create namespace ballast-system
  k label namespace ballast-system pod-security.kubernetes.io/enforce=privileged
  helm install ballast "$chart" --namespace ballast-system --wait --timeout 4m && eventually 120 all_reached
}
helm_upgrade() {
  local first second
  first=$(system get ds ballastd -o jsonpath='{.metadata.generation}')
  helm upgrade ballast "$chart" --namespace ballast-system --set config.tick_ms=300 --wait --timeout 4m || return 1
  second=$(system get ds ballastd -o jsonpath='{.metadata.generation}')
  helm rollback ballast 1 --namespace ballast-system --wait --timeout 4m || return 1
  echo "generations $first $second"
  [ "$second" -gt "$first" ] && agents_ready && eventually 120 all_reached
}
helm_uninstall() {
  helm upgrade ballast "$chart" --namespace ballast-system --set mode=uninstall --wait --timeout 4m && agents_ready || return 1
  in_kernel
  [ -z "$(in_kernel)" ] || return 1
  helm uninstall ballast --namespace ballast-system --wait && k delete namespace ballast-system || return 1
  ours_in_the_api
  [ -z "$(ours_in_the_api)" ]
}
rendered() {
  [ -x "$run/bin/helm" ] || { echo "no helm was built (--quick)"; return 77; }
  deploy/render.sh "$run/bin/helm" --check
}
