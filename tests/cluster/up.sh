#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/up.sh [c | again NODE]: a Kubernetes of two nodes without a virtual machine: etcd, kube-apiserver, kube-controller-manager and kube-scheduler
# in one network namespace, with a bridge; each node its own mount, uts, ipc, net, pid and cgroup namespaces and a cgroup
# of its own in every hierarchy, with containerd, runc, kubelet and kube-proxy. No packet leaves these namespaces.
# c: a third node joins the one that is up. again NODE: all that runs on one dies at once, as where its power is cut, and
# with it what a kernel holds in memory (its processes, cgroups, bpffs, tmpfs and wires); then it starts from its disk.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$here/crio.sh"
mkdir -p "$run/pki" "$run/logs"

keys() { # keys [NODE...]: all, or those of nodes alone
  cd "$run/pki"
  key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; }
  [ $# -gt 0 ] || { key ca && openssl req -x509 -key ca.key -days 30 -subj /CN=cluster-test -out ca.crt; }
  # cert NAME SUBJECT [EXTENSION]
  cert() {
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    printf '%s\n' "extendedKeyUsage=serverAuth,clientAuth" ${3:+"$3"} >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" \
      2>/dev/null
    cat >"$1.conf" <<C
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://$api:6443', certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: u, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
C
  }
  if [ $# -gt 0 ]; then
    for n in "$@"; do cert "node-$n" "/O=system:nodes/CN=system:node:node-$n"; done
    return
  fi
  cert api /CN=kube-apiserver "subjectAltName=IP:$api,IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes.default.svc"
  cert admin /O=system:masters/CN=admin
  cert kubelet-client /O=system:masters/CN=apiserver-kubelet-client
  cert controllers /CN=system:kube-controller-manager
  cert scheduler /CN=system:kube-scheduler
  cert proxy /CN=system:kube-proxy
  for n in "${nodes[@]}"; do cert "node-$n" "/O=system:nodes/CN=system:node:node-$n"; done
  openssl genrsa -out accounts.key 2048 2>/dev/null
  openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
}

wires() {
  ip netns add ballast-cp
  ip -n ballast-cp link set lo up
  ip -n ballast-cp link add br0 type bridge
  ip -n ballast-cp addr add $api/24 dev br0
  ip -n ballast-cp link set br0 up
  in_control sysctl -qw net.ipv4.ip_forward=1
}
wires_of() {
  local n
  for n in "$@"; do
    ip netns add "ballast-$n"
    ip -n "ballast-$n" link set lo up
    ip link add name eth0 netns "ballast-$n" type veth peer name "n-$n" netns ballast-cp
    ip -n ballast-cp link set "n-$n" master br0 up
    ip -n "ballast-$n" addr add "${node_ip[$n]}/24" dev eth0
    ip -n "ballast-$n" link set eth0 up
    ip -n "ballast-$n" route add default via $api
    ip -n ballast-cp route add "${pod_net[$n]}.0/24" via "${node_ip[$n]}"
    nsenter --net="/run/netns/ballast-$n" sysctl -qw net.ipv4.ip_forward=1
  done
}

control() {
  local name=$1
  shift
  # Not by in_control: the id has to be the program's own, not that of a shell around it.
  nsenter --net=/run/netns/ballast-cp setsid "$@" >"$run/logs/$name.log" 2>&1 </dev/null &
  echo "$!" | tee "$run/control-$name.pid" >>"$run/control.pids"
}

control_plane() {
  local p=$run/pki
  control etcd etcd --unsafe-no-fsync --data-dir="$run/etcd" --listen-client-urls=http://127.0.0.1:2379 \
    --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380
  control apiserver "$mesh/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
    --advertise-address=$api --secure-port=6443 --tls-cert-file="$p/api.crt" --tls-private-key-file="$p/api.key" \
    --client-ca-file="$p/ca.crt" --cert-dir="$run/certs" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true \
    --enable-aggregator-routing=true --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$p/kubelet-client.crt" --kubelet-client-key="$p/kubelet-client.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$p/accounts.pub" \
    --service-account-signing-key-file="$p/accounts.key"
  eventually 180 k get --raw /readyz
  control controllers "$run/bin/kube-controller-manager" --kubeconfig="$p/controllers.conf" \
    --authentication-kubeconfig="$p/controllers.conf" --authorization-kubeconfig="$p/controllers.conf" \
    --use-service-account-credentials --root-ca-file="$p/ca.crt" --service-account-private-key-file="$p/accounts.key" \
    --cluster-signing-cert-file="$p/ca.crt" --cluster-signing-key-file="$p/ca.key" --leader-elect=false \
    --bind-address=127.0.0.1 --cert-dir="$run/certs-controllers" --node-monitor-grace-period=60s
  control scheduler "$run/bin/kube-scheduler" --kubeconfig="$p/scheduler.conf" \
    --authentication-kubeconfig="$p/scheduler.conf" --authorization-kubeconfig="$p/scheduler.conf" \
    --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$run/certs-scheduler"
  # Cluster DNS: names of Services, from the API server. The nodes reach it by the bridge.
  ip -n ballast-cp addr add $dns/32 dev br0
  control dns python3 "$here/dns.py" "$mesh/kubectl" $dns
}

node() {
  local n=$1 home=$run/node-$1 h
  mkdir -p "$home"/{lib-kubelet,lib-containerd,log-pods,log-containers,cni,cni-state,fake,static}
  mkdir -p /var/lib/kubelet /var/lib/containerd /var/log/pods /var/log/containers /etc/cni/net.d /var/lib/cni
  for h in /sys/fs/cgroup/*/; do
    mkdir -p "$h/ballast-node-$n"
    if [ -e "$h/cpuset.cpus" ]; then
      cat "$h/cpuset.cpus" >"$h/ballast-node-$n/cpuset.cpus"
      cat "$h/cpuset.mems" >"$h/ballast-node-$n/cpuset.mems"
    fi
  done
  echo 1 >"$home/fake/one"
  echo 10 >"$home/fake/ten"
  # By which the kubelet knows that a machine was started anew.
  cat /proc/sys/kernel/random/uuid >"$home/fake/boot"
  cat >"$home/config.toml" <<C
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
C
  local endpoint=/run/containerd/containerd.sock
  ! on_crio "$n" || { crio_configured "$home" && endpoint=/run/crio/crio.sock; }
  cat >"$home/cni/10-ptp.conflist" <<C
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "/var/lib/cni", "ranges": [[{"subnet": "${pod_net[$n]}.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
  cat >"$home/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $run/pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [$dns]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$endpoint
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
resolvConf: /etc/resolv.conf
serializeImagePulls: false
nodeStatusUpdateFrequency: 5s
# Volumes of ConfigMaps follow within this: the default of a minute is what a test would wait for.
syncFrequency: 5s
staticPodPath: $home/static
fileCheckFrequency: 2s
C
  cat >"$home/proxy.yaml" <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $run/pki/proxy.conf}
mode: iptables
clusterCIDR: 10.244.0.0/16
hostnameOverride: node-$n
conntrack: {maxPerCore: 0}
C
  setsid bash -c '
    for h in /sys/fs/cgroup/*/; do echo $$ >"$h/ballast-node-'"$n"'/cgroup.procs"; done
    exec nsenter --net=/run/netns/ballast-'"$n"' unshare --mount --uts --ipc --cgroup --pid --fork --kill-child \
      --propagation private "'"$here"'/node-init.sh" '"$n" >"$run/logs/node-$n.log" 2>&1 </dev/null &
  echo $! >"$run/node-$n.pid"
}

ready() {
  local n
  for n in "$@"; do
    # Images are imported before the kubelet starts.
    eventually 600 k wait --for=condition=Ready --timeout=1s "node/node-$n" || { tail "$run/logs/"*"-$n.log"; exit 1; }
  done
}

gone() {
  [ -z "$(init_of "$1")" ] || return 1
  for group in $(find /sys/fs/cgroup -maxdepth 2 -name "ballast-node-$1" 2>/dev/null); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "ballast-node-$1" 2>/dev/null)" ]
}
again() {
  kill -9 "$(init_of "$1")"
  eventually 30 gone "$1" || { echo "up: node-$1 does not end" >&2; exit 1; }
  ip -n ballast-cp route del "${pod_net[$1]}.0/24"
  ip -n ballast-cp link del "n-$1"
  ip netns del "ballast-$1"
  wires_of "$1"
  node "$1"
}

if [ "${1:-}" = again ]; then
  again "$2"
  exit 0
fi
if [ $# -gt 0 ]; then
  (keys "$@")
  wires_of "$@"
  for n in "$@"; do node "$n"; done
  ready "$@"
  exit 0
fi
: >"$run/control.pids"
(keys)
wires
wires_of "${nodes[@]}"
control_plane
for n in "${nodes[@]}"; do node "$n"; done
ready "${nodes[@]}"
