#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/mesh/build.sh: the real control plane that tests/mesh runs against, into build/mesh: istiod
# (pilot-discovery), pilot-agent, kube-apiserver and kubectl from their Go modules, and Istio's CRDs. Built once for a
# version of tests/mesh/modules; later calls do nothing. Takes about eight minutes on two idle cores.
# Exit code 3 where Go or etcd is missing: nothing is built then, and the tests of the mesh are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
out=$root/build/mesh
modules=$root/tests/mesh/modules

missing=()
command -v go >/dev/null || missing+=("Go 1.26 or later (go.dev)")
command -v etcd >/dev/null || missing+=("etcd (Debian: etcd-server)")
command -v openssl >/dev/null || missing+=("openssl")
if [ "${#missing[@]}" -gt 0 ]; then
  printf '\n*** mesh: NOT BUILT, missing: %s\n*** The tests against the real control plane will be SKIPPED.\n\n' \
    "$(IFS=';'; echo "${missing[*]}")" >&2
  exit 3
fi

stamp=$(cat "$modules"/*/go.mod "$modules"/*/go.sum | sha256sum | cut -d' ' -f1)
[ "$(cat "$out/stamp" 2>/dev/null || true)" != "$stamp" ] || exit 0
mkdir -p "$out"
rm -f "$out/stamp"

# Fewer jobs for less memory: istiod takes 2.8 GB to build with two.
export GOFLAGS="-mod=readonly -buildvcs=false -trimpath -p=${BALLAST_MESH_JOBS:-2}" GOWORK=off
kubernetes=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3}' "$modules/apiserver/go.mod")
# kubectl refuses a server that does not know its version.
version="-X k8s.io/component-base/version.gitVersion=$kubernetes"

build() {
  local module=$1 package=$2 flags=$3
  echo "mesh: building ${package##*/}"
  (cd "$modules/$module" && nice -n 10 go build -ldflags "-s -w $flags" -o "$out/${package##*/}" "$package")
}
build istiod istio.io/istio/pilot/cmd/pilot-discovery ""
build istiod istio.io/istio/pilot/cmd/pilot-agent ""
build apiserver k8s.io/kubernetes/cmd/kube-apiserver "$version"
build apiserver k8s.io/kubernetes/cmd/kubectl "$version"
istio=$(cd "$modules/istiod" && go list -m -f '{{.Dir}}' istio.io/istio)
install -m 0644 "$istio/manifests/charts/base/files/crd-all.gen.yaml" "$out/istio-crds.yaml"
echo "$stamp" >"$out/stamp"
