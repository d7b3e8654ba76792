# SPDX-License-Identifier: Apache-2.0
#
# Shared by the scripts of this folder: where things are, and how a command gets to where it has to run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
run=$root/build/cluster
mesh=$root/build/mesh
api=10.90.0.1
dns=10.96.0.10
nodes=(a b)
every_node=(a b c)  # with the one that is added later (up.sh c)
declare -A node_ip=([a]=10.90.0.11 [b]=10.90.0.12 [c]=10.90.0.13) pod_net=([a]=10.244.1 [b]=10.244.2 [c]=10.244.3)
export KUBECONFIG=$run/pki/admin.conf

# The nodes that run on CRI-O (crio.sh), the others on containerd: an option of run, kept for all that it starts.
on_crio() { [[ " ${BALLAST_CLUSTER_CRIO:-} " == *" $1 "* ]]; }

in_control() { nsenter --net=/run/netns/ballast-cp "$@"; }
k() { in_control "$mesh/kubectl" "$@"; }
helm() { in_control "$run/bin/helm" "$@"; }
# The first process of a node, which all of the node ends with.
init_of() { pgrep -P "$(cat "$run/node-$1.pid")" | head -n 1; }
in_node() {
  local node=$1
  shift
  nsenter --target "$(init_of "$node")" --mount --uts --ipc --net --pid --cgroup "$@"
}
# ctl NODE ARGS...: ballastctl in the agent's pod of the node.
ctl() {
  local pod
  pod=$(k -n ballast-system get pods -l app=ballastd --field-selector "spec.nodeName=node-$1" -o name | head -n 1)
  shift
  k -n ballast-system exec "$pod" -c ballastd -- ballastctl "$@"
}
# writer ARGS...: ballastctl beside who writes weights now.
writer() {
  k -n ballast-system exec "$(k -n ballast-system get lease ballast-leader -o jsonpath='{.spec.holderIdentity}' | sed 's/_.*//')" \
    -c ballastd -- ballastctl "$@"
}
# The source of the Istio that was built: its charts and Envoy's bootstrap. Fetched where only the programs are cached.
istio_source() {
  (cd "$root/tests/mesh/modules/istiod" && GOFLAGS=-mod=readonly GOWORK=off go mod download -json istio.io/istio) |
    sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p' | grep .
}
# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.3
  done
}
