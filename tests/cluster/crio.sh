# SPDX-License-Identifier: Apache-2.0
#
# A node on CRI-O in the place of containerd (tests/cluster/run --runtime crio), with runc (Debian 12's crun is too old for
# it), conmon beside each container, and its own profile of seccomp.

crio_configured() { # crio_configured HOME
  mkdir -p "$1/lib-crio"
  cat >"$1/crio.conf" <<C
[crio]
root = "$1/lib-crio/storage"
runroot = "/run/containers/storage"
log_dir = "/run/crio/pods"
storage_driver = "overlay"
version_file_persist = "$1/lib-crio/version"
clean_shutdown_file = "$1/lib-crio/clean.shutdown"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "$run/bin/pinns"
default_runtime = "runc"
[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
monitor_path = "/usr/bin/conmon"
[crio.image]
pause_image = "localhost/pause:1"
signature_policy_dir = "/run/crio/policies"
[crio.network]
network_dir = "/etc/cni/net.d"
plugin_dirs = ["/usr/lib/cni"]
C
}
# CRI-O sets limits of controllers that a kernel has, also where the machine has not mounted them (of cgroup v1).
crio_mounted() { # crio_mounted HOME
  [ -d /sys/fs/cgroup/unified ] || return 0
  awk '!/^#/ && $2 == 0 {$4 = 0} {print}' OFS='\t' /proc/cgroups >"$1/fake/cgroups"
  mount --bind "$1/fake/cgroups" /proc/cgroups
}
# Both read the same storage. What is there already is left (up.sh again).
crio_imported() { # crio_imported HOME ARCHIVE
  buildah --root "$1/lib-crio/storage" --runroot /run/containers/storage --storage-driver overlay \
    pull --quiet "oci-archive:$2"
}

# What the API server says of the node's containers, and what the agent makes of their cgroups: each is known, and no
# cgroup of a monitor or a sandbox is taken for one. The agent works within CRI-O's own profile of seccomp.
crio_known() { # crio_known NODE
  local version
  version=$(k get node "node-$1" -o jsonpath='{.status.nodeInfo.containerRuntimeVersion}')
  echo "node-$1: $version"
  [[ $version == cri-o://* ]] || return 1
  # shellcheck disable=SC2016
  in_node "$1" sh -c 'grep -x "Seccomp:.2" "/proc/$(pgrep -f -- "--role nod[e]")/status"' ||
    { echo "the agent is not confined by seccomp"; return 1; }
  in_node "$1" find /sys/fs/cgroup -type d -path '*kubepods*' -name 'crio-conmon-*' >"$run/monitors"
  ctl "$1" cpu -o json >"$run/cpu.json" && k get pods -A --field-selector "spec.nodeName=node-$1" -o json >"$run/pods.json" || return 1
  python3 - "$run" <<'P'
import json
import sys

run = sys.argv[1]
monitors = len(open(f'{run}/monitors').read().split())
wanted = {}
for pod in json.load(open(f'{run}/pods.json'))['items']:
    for c in pod['status'].get('containerStatuses', []):
        if 'running' in c['state']:
            wanted[c['containerID']] = (pod['metadata']['namespace'], pod['metadata']['name'], c['name'])
found = {}
for row in json.load(open(f'{run}/cpu.json')):
    if row['pod']:
        key = row['cgroup'].rsplit('/', 1)[1].replace('crio-', 'cri-o://').removesuffix('.scope')
        found[key] = (row['namespace'], row['pod'], row['container'])
        print(*found[key], row['on_cpu_ns'] // 10**6, 'ms', (row['memory_bytes'] or 0) >> 10, 'kB')
        if not (row['on_cpu_ns'] and row['memory_bytes']):
            sys.exit('without CPU time or memory')
print(len(wanted), 'containers,', monitors, 'cgroups of monitors')
if wanted != found or not monitors:
    sys.exit(f'wanted {wanted}\nfound {found}')
P
}
