#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/programs.sh [--helm | --crio | --where | --helm-where]: kubelet, kube-controller-manager, kube-scheduler
# and kube-proxy (with --helm: helm; with --crio: crio and pinns) from the Go modules in modules/, into build/cluster/bin.
# Like the programs of tests/mesh they lie outside the tree by version, and are built once on a machine. --where and
# --helm-where print the folder of either and build nothing. Exit code 3: Go is missing.
set -euo pipefail
. "$(dirname "$0")/env.sh"
kept_in() { # kept_in MODULE
  local version
  version=$(cat "$here/modules/$1/go.mod" "$here/modules/$1/go.sum" | sha256sum | cut -c1-16)
  echo "${BALLAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ballast}/cluster/$version"
}
# made MODULE PREFIX PROGRAM...
made() {
  local module=$here/modules/$1 prefix=$2 kept program flags= tags=
  kept=$(kept_in "$1")
  # Without what only its build on other distributions has: file systems, gpg.
  [ "$1" != crio ] || tags=seccomp,containers_image_openpgp,containers_image_ostree_stub,exclude_graphdriver_btrfs
  shift 2
  mkdir -p "$kept" "$run/bin"
  [ "$prefix" != k8s.io/kubernetes ] ||
    flags="-X k8s.io/component-base/version.gitVersion=$(awk '$2 == "k8s.io/kubernetes" {print $3}' "$module/go.mod")"
  (
    flock 9
    for program in "$@"; do
      [ ! -s "$kept/$program" ] || continue
      command -v go >/dev/null || { echo "cluster: Go is missing, $program cannot be built" >&2; exit 3; }
      echo "cluster: building $program"
      (cd "$module" && GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false -trimpath -p=2" nice -n 10 \
        go build -tags "$tags" -ldflags "-s -w $flags" -o "$kept/.$program.$$" "$prefix/cmd/$program")
      mv "$kept/.$program.$$" "$kept/$program"
    done
  ) 9>"$kept.lock"
  for program in "$@"; do ln -sfn "$kept/$program" "$run/bin/$program"; done
}
if [ "${1:-}" = --where ]; then
  kept_in kubernetes
elif [ "${1:-}" = --helm-where ]; then
  kept_in helm
elif [ "${1:-}" = --helm ]; then
  made helm helm.sh/helm/v3 helm
elif [ "${1:-}" = --crio ]; then
  made crio github.com/cri-o/cri-o crio
  # The program beside it that makes a pod's namespaces, in C.
  kept=$(kept_in crio)
  if [ ! -s "$kept/pinns" ]; then
    source=$(cd "$here/modules/crio" && GOWORK=off go list -mod=readonly -m -f '{{.Dir}}' github.com/cri-o/cri-o)
    gcc -std=c99 -O2 -s -o "$kept/.pinns.$$" "$source"/pinns/src/*.c
    mv "$kept/.pinns.$$" "$kept/pinns"
  fi
  ln -sfn "$kept/pinns" "$run/bin/pinns"
else
  made kubernetes k8s.io/kubernetes kubelet kube-controller-manager kube-scheduler kube-proxy
fi
