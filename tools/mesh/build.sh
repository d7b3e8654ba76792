#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/mesh/build.sh [PROGRAM...]: the real control plane that tests/mesh runs against: istiod (pilot-discovery),
# pilot-agent, kube-apiserver and kubectl from their Go modules, and Istio's CRDs; or the programs named (any command of
# those modules: kubelet, kube-proxy, kube-controller-manager, kube-scheduler; pilot-discovery-before: the istiod of
# tests/mesh/before, for BALLAST_MESH_ISTIOD=pilot-discovery-before tests/mesh/run). They lie outside the tree, in
# ${BALLAST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ballast}/mesh/VERSION, so that each clone and worktree finds them;
# build/mesh is a link to it. VERSION is of tests/mesh/modules. Built once; later calls do nothing. Takes about eight
# minutes on two idle cores.
# --check builds nothing: exit code 0 where all is there, 1 where something has to be built.
# Exit code 3 where Go or etcd is missing: nothing is built then, and the tests of the mesh are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
modules=$root/tests/mesh/modules
check=no
[ "${1:-}" != --check ] || { check=yes && shift; }
programs=("$@")
[ "$#" -gt 0 ] || programs=(pilot-discovery pilot-agent kube-apiserver kubectl istio-crds.yaml gateway-crds.yaml)

version=$(cat "$modules"/*/go.mod "$modules"/*/go.sum | sha256sum | cut -c1-16)
out=${BALLAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ballast}/mesh/$version
mkdir -p "$out" "$root/build"
# A folder of an earlier version of this script is left to whoever made it.
if [ -d build/mesh ] && [ ! -L build/mesh ]; then mv build/mesh "build/mesh.before-$(date +%s)"; fi
ln -sfn "$out" build/mesh

missing=()
command -v etcd >/dev/null || missing+=("etcd (Debian: etcd-server)")
command -v openssl >/dev/null || missing+=("openssl")
absent=()
for program in "${programs[@]}"; do
  [ -s "$out/$program" ] || absent+=("$program")
done
[ "${#absent[@]}" -eq 0 ] || command -v go >/dev/null || missing+=("Go 1.26 or later (go.dev)")
if [ "${#missing[@]}" -gt 0 ]; then
  printf '\n*** mesh: NOT BUILT, missing: %s\n*** The tests against the real control plane will be SKIPPED.\n\n' \
    "$(IFS=';'; echo "${missing[*]}")" >&2
  exit 3
fi
[ "${#absent[@]}" -gt 0 ] || exit 0
[ "$check" = no ] || exit 1

# Fewer jobs for less memory: istiod takes 2.8 GB to build with two. One build at a time on a machine.
export GOFLAGS="-mod=readonly -buildvcs=false -trimpath -p=${BALLAST_MESH_JOBS:-2}" GOWORK=off
gently=$(($(nice) < 10 ? 10 - $(nice) : 0))
exec 9>"$out.lock"
flock 9
kubernetes=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3}' "$modules/apiserver/go.mod")

build() {
  local folder=$1 package=$2 flags=$3 name=${4:-${2##*/}}
  echo "mesh: building $name"
  (cd "$folder" && nice -n "$gently" go build -ldflags "-s -w $flags" -o "$out/.$name.$$" "$package")
  mv "$out/.$name.$$" "$out/$name"
}
for program in "${absent[@]}"; do
  [ ! -s "$out/$program" ] || continue  # another call has built it meanwhile
  case $program in
    pilot-discovery-before)
      build "$root/tests/mesh/before" istio.io/istio/pilot/cmd/pilot-discovery "" "$program" ;;
    pilot-*) build "$modules/istiod" "istio.io/istio/pilot/cmd/$program" "" ;;
    istio-crds.yaml)
      istio=$(cd "$modules/istiod" && go list -m -f '{{.Dir}}' istio.io/istio)
      install -m 0644 "$istio/manifests/charts/base/files/crd-all.gen.yaml" "$out/.crds.$$"
      mv "$out/.crds.$$" "$out/$program"
      ;;
    gateway-crds.yaml)
      gateway=$(cd "$modules/istiod" && go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
      for crd in "$gateway"/config/crd/standard/*_{gatewayclasses,gateways,httproutes,referencegrants}.yaml; do
        echo "---" && cat "$crd"
      done >"$out/.gateway.$$"
      mv "$out/.gateway.$$" "$out/$program"
      ;;
    # kubectl refuses a server that does not know its version.
    *)
      build "$modules/apiserver" "k8s.io/kubernetes/cmd/$program" \
        "-X k8s.io/component-base/version.gitVersion=$kubernetes"
      ;;
  esac
done
