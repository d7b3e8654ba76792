#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Ends what up.sh started, by its ids; removes its namespaces, cgroups and data. Prints what is left, and fails then.
. "$(dirname "$0")/env.sh"
for n in "${every_node[@]}"; do
  [ -e "$run/node-$n.pid" ] || continue
  top=$(cat "$run/node-$n.pid")
  init=$(init_of "$n")
  [ -z "$init" ] || kill -9 "$init" 2>/dev/null
  kill -9 "$top" 2>/dev/null
  rm -f "$run/node-$n.pid"
done
if [ -e "$run/control.pids" ]; then
  while read -r pid; do kill -9 "$pid" 2>/dev/null; done <"$run/control.pids"
  rm -f "$run/control.pids"
fi
left() {
  local n
  for n in "${every_node[@]}"; do
    find /sys/fs/cgroup -maxdepth 2 -name "ballast-node-$n" 2>/dev/null
  done
  ip netns list 2>/dev/null | awk '$1 ~ /^ballast-(cp|a|b|c)$/ {print "network namespace " $1}'
  grep -o " $run[^ ]*" /proc/mounts | sed 's/^/mount/'
  # Shells and tools that merely name the folder are not ours: what was started has it in its command line.
  pgrep -af "(--data-dir=|--config |--kubeconfig[= ]|--cert-dir=)$run" | sed 's/^/process /'
}
for _ in $(seq 60); do
  for n in "${every_node[@]}"; do
    for group in $(find /sys/fs/cgroup -maxdepth 2 -name "ballast-node-$n" 2>/dev/null); do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
  done
  for ns in cp "${every_node[@]}"; do ip netns del "ballast-$ns" 2>/dev/null; done
  [ -n "$(left)" ] || break
  sleep 0.5
done
rm -rf "$run/etcd" "$run"/node-* "$run/pki" "$run"/certs*
rmdir /var/lib/kubelet /var/lib/containerd /var/log/pods /var/log/containers /etc/cni/net.d /etc/cni /var/lib/cni 2>/dev/null
left
[ -z "$(left)" ]
