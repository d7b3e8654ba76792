#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Process 1 of a node: its file systems, then containerd or CRI-O, kubelet and kube-proxy. Nothing of the host's is written.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$here/crio.sh"
n=$1
home=$run/node-$n
hostname "node-$n"
mount --make-rshared /
hybrid=()
while read -r _ where type options _; do
  [ "$type" != cgroup ] || hybrid+=("$where $options")
done </proc/mounts
umount -R -l /sys
mount -t proc proc /proc
mount -t sysfs sysfs /sys
if [ "${#hybrid[@]}" -gt 0 ]; then
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for each in "${hybrid[@]}"; do
    controller=${each##*,}
    mkdir -p "${each% *}"
    mount -t cgroup -o "$([[ $controller == name=* ]] && echo "none,$controller" || basename "${each% *}")" cgroup "${each% *}"
  done
  mkdir /sys/fs/cgroup/unified
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing || true
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mount --bind "$home/lib-kubelet" /var/lib/kubelet
mount --bind "$home/lib-containerd" /var/lib/containerd
mount --bind "$home/log-pods" /var/log/pods
mount --bind "$home/log-containers" /var/log/containers
mount --bind "$home/cni" /etc/cni/net.d
mount --bind "$home/cni-state" /var/lib/cni
# What the kubelet would set for the whole machine looks set already.
mount --bind "$home/fake/one" /proc/sys/vm/overcommit_memory
mount --bind "$home/fake/ten" /proc/sys/kernel/panic
mount --bind "$home/fake/one" /proc/sys/kernel/panic_on_oops
mount --bind "$home/fake/boot" /proc/sys/kernel/random/boot_id
up() {
  local name=$1
  shift
  "$@" >"$run/logs/$name-$n.log" 2>&1 </dev/null &
}
tars=("$run"/images/*.tar)
[ -z "${BALLAST_CLUSTER_MESH:-}" ] || tars+=("$run"/images/mesh/*.tar)
if on_crio "$n"; then
  crio_mounted "$home"
  for tar in "${tars[@]}"; do crio_imported "$home" "$tar"; done
  up crio "$run/bin/crio" --config "$home/crio.conf" --config-dir ""
  eventually 60 curl -fsS -m 2 --unix-socket /run/crio/crio.sock http://crio/info
else
  up containerd containerd --config "$home/config.toml" --root /var/lib/containerd --state /run/containerd
  eventually 60 ctr --connect-timeout 1s version
  for tar in "${tars[@]}"; do ctr -n k8s.io images import "$tar"; done
fi
up kubelet "$run/bin/kubelet" --config "$home/kubelet.yaml" --kubeconfig "$run/pki/node-$n.conf" \
  --hostname-override "node-$n" --node-ip "${node_ip[$n]}" --v=2
up proxy "$run/bin/kube-proxy" --config "$home/proxy.yaml" --v=2
while :; do wait -n || true; sleep 0.2; done
