# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/run bad: nodes and clusters that an agent cannot work on. Its pod says why in its status and in an Event,
# what runs goes on, and traffic is nobody's business but Kubernetes'.

# What the pods of a label said last, in their status, and in Events at them.
status_says() {
  system get pods -l "app=$1" -o json | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["items"]:
    for container in pod["status"].get("containerStatuses", []):
        for state in (container["state"], container["lastState"]):
            for one in state.values():
                print(container["name"], one.get("reason", ""), one.get("message", ""))' | grep -F -m 1 -- "$2"
}
event_says() { system get events -o json | python3 -c '
import json, sys
for event in json.load(sys.stdin)["items"]:
    if event["involvedObject"]["kind"] == "Pod":
        print(event["reason"], event["message"])' | grep -F -m 1 -- "$1"; }
traffic_is_plain() {
  [ -z "$(k get serviceentries,virtualservices -A -o name 2>/dev/null)" ] || { echo "something of Istio is written"; return 1; }
  in_node a h2load --h1 -n 200 -c 4 "http://$(service_ip shop web)/" | grep -q '200 succeeded' || { echo "requests failed"; return 1; }
}
# agents_run COUNT: containers of the agent, whatever becomes of the learner beside it.
agents_run() {
  [ "$(system get pods -l app=ballastd -o jsonpath='{range .items[*]}{.status.containerStatuses[?(@.name=="ballastd")].ready}{"\n"}{end}' | grep -c true)" -ge "$1" ]
}
others_run() { agents_run 1 || { echo "no agent runs any more"; return 1; }; }
# container PATCH [NAME]: of the agent's container in the DaemonSet, or the one named.
container() {
  printf '{"spec":{"template":{"spec":{"volumes":[{"name":"nothing","emptyDir":{}},{"name":"setarch","hostPath":{"path":"%s"}}],"containers":[{"name":"%s",%s}]}}}}' \
    "$(command -v setarch)" "${2:-ballastd}" "$1"
}
# As ballastd is started by the DaemonSet, with more before it and behind.
command_of() { printf '"command":[%s"ballastd","--config","/etc/ballast/ballastd.yaml","--mode","off","--role","node"%s]' "${1:-}" "${2:-}"; }
# refused STATUS EVENT PATCH [COMMAND...]: an agent that is patched so says these words while the command holds, and comes
# back without.
refused() {
  local code=0 status=$1 event=$2
  system delete events --all >/dev/null
  system patch ds ballastd --type=strategic -p "$3" || return 1
  shift 3
  eventually 90 status_says ballastd "$status" || { system get pods -o wide; status_says ballastd ''; echo "the status does not say: $status"; code=1; }
  status_says ballastd "$status"
  eventually 30 event_says "$event" || { system get events; echo "no Event says: $event"; code=1; }
  event_says "$event"
  "$@" || code=1
  others_run && traffic_is_plain || code=1
  system rollout undo ds/ballastd && agents_ready || code=1
  return $code
}
no_btf() { refused BTF BTF "$(container '"volumeMounts":[{"name":"nothing","mountPath":"/sys/kernel/btf"}]')"; }
bpffs_read_only() {
  refused 'Read-only file system' 'Read-only file system' \
    "$(container '"volumeMounts":[{"name":"bpf","mountPath":"/sys/fs/bpf","mountPropagation":"HostToContainer","readOnly":true}]')"
}
# What of version 2 a node has is not there: on a hybrid one the folder of it, else all.
cgroup_v1_alone() {
  local where=/sys/fs/cgroup
  ! in_node a test -d /sys/fs/cgroup/unified || where=/sys/fs/cgroup/unified
  refused 'cgroup' 'cgroup' "$(container '"volumeMounts":[{"name":"nothing","mountPath":"'$where'"}]')"
}
no_capability() { refused CAP_BPF CAP_BPF "$(container '"securityContext":{"capabilities":{"add":["PERFMON","NET_ADMIN"]}}')"; }
no_image() { refused ErrImageNeverPull 'not present' "$(container '"image":"localhost/nobody:1","imagePullPolicy":"Never"')"; }
# What measures needs no learner.
no_learner_image() {
  refused ErrImageNeverPull 'not present' "$(container '"image":"localhost/nobody:1","imagePullPolicy":"Never"' ballast-learner)" \
    both_measure
}
both_measure() { eventually 60 agents_run 2 && counts 500; }
wrong_value() { refused no_such_source no_such_source "$(container "$(command_of '' ',"--identity","no_such_source"')")"; }
contradiction() { refused 'set identity: kubernetes' 'set identity: kubernetes' "$(container "$(command_of '' ',"--identity","none"')")"; }
# The kernel calls itself 2.6 to whoever wants it to.
old_kernel() {
  refused 'is older than 5.10' 'is older than 5.10' \
    "$(container '"volumeMounts":[{"name":"setarch","mountPath":"/setarch"}],'"$(command_of '"/setarch","--uname-2.6",')")"
}
# A second DaemonSet on the same nodes, with the same folder of pins.
another_ballast() {
  local code=0
  system get ds ballastd -o json | python3 -c '
import json, sys
o = json.load(sys.stdin)
o["metadata"] = {"name": "another", "namespace": "ballast-system"}
o["spec"]["selector"] = {"matchLabels": {"app": "another"}}
o["spec"]["template"]["metadata"]["labels"] = {"app": "another"}
o.pop("status")
print(json.dumps(o))' | k apply -f - || return 1
  eventually 90 status_says another 'held by another ballastd' || { status_says another ''; code=1; }
  eventually 30 event_says 'held by another ballastd' || { system get events; code=1; }
  event_says 'held by another ballastd'
  agents_ready && others_run && traffic_is_plain || code=1
  system delete ds another --wait=true
  return $code
}
# Nobody can be written to: what is measured is measured, and the writer says what is missing.
no_istio() {
  local code=0
  k delete -f "$mesh/istio-crds.yaml" --wait=true >/dev/null && acts || return 1
  eventually 60 writer_says networking.istio.io || { writer status; code=1; }
  writer status -o json | python3 -c 'import json,sys; print(json.load(sys.stdin)["trouble"])'
  agents_ready && never_restarted && eventually 30 all_reached && counts 500 && traffic_is_plain || code=1
  k apply --server-side -f "$mesh/istio-crds.yaml" >/dev/null
  eventually 120 writes 2 || { echo "with Istio's definitions back nothing is written"; code=1; }
  return $code
}
writer_says() { writer status -o json | python3 -c 'import json,sys; sys.exit(sys.argv[1] not in json.load(sys.stdin)["trouble"])' "$1"; }

bad() {
  check "a node without BTF" no_btf
  check "a bpffs that is read-only" bpffs_read_only
  check "no cgroup of version 2" cgroup_v1_alone
  check "a capability that is missing" no_capability
  check "an image that is missing" no_image
  check "the learner's image is missing: its agent measures" no_learner_image
  check "a value that is refused" wrong_value
  check "values that contradict" contradiction
  check "a kernel that is too old" old_kernel
  check "another Ballast on the same nodes" another_ballast
  check "no Istio, and Istio that comes later" no_istio
}
