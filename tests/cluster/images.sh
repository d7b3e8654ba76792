#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/images.sh [--mesh]: what the nodes import, into build/cluster/images: Ballast's images
# (deploy/image/build.sh), the sandbox's, and Debian's nginx, which counts its requests itself. --mesh: into
# build/cluster/images/mesh as well Istio's (pilot, and proxyv2 with the Envoy that the tree pins), podinfo, HotROD, and
# ballast-lab, whose pods burn what CPU time a request asks for.
set -euo pipefail
. "$(dirname "$0")/env.sh"
out=$run/images
mkdir -p "$out"
work=$(mktemp -d)
store=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
trap 'rm -rf "$work"' EXIT

image() { # image NAME ENTRYPOINT: from $work/NAME
  printf 'FROM scratch\nCOPY root/ /\nENV PATH=/usr/local/bin:/usr/sbin:/usr/bin\nUSER 65532:65532\nENTRYPOINT %s\n' "$2" >"$work/$1/Containerfile"
  "${store[@]}" bud --quiet --isolation chroot --format oci -t "localhost/$1:1" "$work/$1" >/dev/null
  "${store[@]}" push --quiet "localhost/$1:1" "oci-archive:$out/.$1.tar:localhost/$1:1"
  mv "$out/.$1.tar" "$out/$1.tar"
}
if [ ! -s "$out/pause.tar" ]; then
  mkdir -p "$work/pause/root"
  gcc -O2 -static -s -o "$work/pause/root/pause" "$here/images/pause.c"
  image pause '["/pause"]'
fi
# libraries ROOT PROGRAM...: what they load, at its paths.
libraries() {
  local files=$1 library
  shift
  { ldd "$@" 2>/dev/null || true; } | awk '$2 == "=>" {print $3} $1 ~ /^\// && NF == 2 && $1 !~ /:$/ {print $1}' | sort -u |
    while read -r library; do
      mkdir -p "$files$(dirname "$library")"
      cp -L "$library" "$files$library"
    done
}
users() { # users ROOT
  mkdir -p "$1/etc" "$1/tmp"
  chmod 1777 "$1/tmp"
  printf 'root:x:0:0::/:/none\nistio-proxy:x:1337:1337::/:/none\nnobody:x:65532:65532::/:/none\n' >"$1/etc/passwd"
  printf 'root:x:0:\nistio-proxy:x:1337:\nnobody:x:65532:\nnogroup:x:65533:\n' >"$1/etc/group"
}
if [ ! -s "$out/nginx.tar" ]; then
  files=$work/nginx/root
  mkdir -p "$files"/{etc/nginx,usr/sbin,var/log/nginx}
  cp /usr/sbin/nginx "$files/usr/sbin/"
  libraries "$files" /usr/sbin/nginx
  users "$files"
  cat >"$files/etc/nginx/nginx.conf" <<'C'
daemon off;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  keepalive_requests 100000;
  server {
    listen 8080;
    location / { return 200 "$hostname\n"; }
    location /count { stub_status; }
  }
}
C
  image nginx '["/usr/sbin/nginx"]'
fi
if [ "${1:-}" = --mesh ]; then
  mkdir -p "$out/mesh"
  out=$out/mesh
  envoy=$(readlink -f "$root/build/venv/bin/envoy-binary")
  istio=$(istio_source)
  if [ ! -s "$out/pilot.tar" ]; then
    files=$work/pilot/root
    mkdir -p "$files"/{usr/local/bin,etc/ssl/certs,var/run}
    cp -L "$mesh/pilot-discovery" "$files/usr/local/bin/"
    cp /etc/ssl/certs/ca-certificates.crt "$files/etc/ssl/certs/"
    libraries "$files" "$mesh/pilot-discovery"
    users "$files"
    image pilot '["/usr/local/bin/pilot-discovery"]'
  fi
  if [ ! -s "$out/proxyv2.tar" ] || [ "$envoy" -nt "$out/proxyv2.tar" ]; then
    files=$work/proxyv2/root
    mkdir -p "$files"/{usr/local/bin,usr/sbin,usr/bin,etc/ssl/certs,var/run,var/lib/istio/envoy,var/lib/istio/data,usr/lib/x86_64-linux-gnu}
    chmod 777 "$files/var/lib/istio/data"
    cp "$envoy" "$files/usr/local/bin/envoy"
    cp -L "$mesh/pilot-agent" "$files/usr/local/bin/"
    cp "$istio/tools/packaging/common/envoy_bootstrap.json" "$files/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"
    cp /etc/ssl/certs/ca-certificates.crt "$files/etc/ssl/certs/"
    cp /usr/sbin/xtables-{nft,legacy}-multi "$files/usr/sbin/"
    for tool in iptables{,-save,-restore} ip6tables{,-save,-restore}; do
      ln -sf xtables-nft-multi "$files/usr/sbin/$tool"
      ln -sf xtables-nft-multi "$files/usr/sbin/${tool/tables/tables-nft}"
      ln -sf xtables-legacy-multi "$files/usr/sbin/${tool/tables/tables-legacy}"
    done
    cp "$(command -v ip)" "$files/usr/bin/ip"
    cp -r /usr/lib/x86_64-linux-gnu/xtables "$files/usr/lib/x86_64-linux-gnu/"
    [ ! -e /etc/protocols ] || cp /etc/protocols "$files/etc/"
    libraries "$files" "$envoy" "$mesh/pilot-agent" /usr/sbin/xtables-{nft,legacy}-multi "$(command -v ip)"
    users "$files"
    image proxyv2 '["/usr/local/bin/pilot-agent"]'
  fi
  # foreign NAME PACKAGE WHICH: a program of the examples, from its Go module; WHICH is more Python for go_program().
  foreign() {
    local files=$work/$1/root program
    [ ! -s "$out/$1.tar" ] || return 0
    mkdir -p "$files/usr/bin"
    program=$(cd "$root/examples" && python3 -B -c "import pathlib, sys; import example; print(example.go_program(*sys.argv[1:], $3))" \
      "$1" "$2" | tail -n 1)
    cp "$program" "$files/usr/bin/$1"
    libraries "$files" "$files/usr/bin/$1"
    users "$files"
    image "$1" "[\"/usr/bin/$1\"]"
  }
  foreign podinfo github.com/stefanprodan/podinfo/cmd/podinfo \
    "version='$(sed -n 's/^VERSION = "\(.*\)"/\1/p' "$root/examples/podinfo/run")'"
  foreign hotrod github.com/jaegertracing/jaeger/examples/hotrod "source=pathlib.Path('hotrod').resolve()"
  lab=$root/build/release/bin/ballast-lab
  if [ ! -s "$out/lab.tar" ] || [ "$lab" -nt "$out/lab.tar" ]; then
    mkdir -p "$work/lab/root/usr/bin"
    cp "$lab" "$work/lab/root/usr/bin/"
    libraries "$work/lab/root" "$lab"
    users "$work/lab/root"
    image lab '["/usr/bin/ballast-lab"]'
  fi
  out=$run/images
fi
# Ballast's own, made anew where a program is newer than the archive.
newest=$(ls -t "$root"/build/release/bin/{ballastd,ballastctl,ballast-global,ballast-learner} | head -n 1)
if [ ! -s "$root/build/image/ballast-learner.tar" ] || [ "$newest" -nt "$root/build/image/ballast-learner.tar" ]; then
  BALLAST_IMAGES="ballast ballast-learner" "$root/deploy/image/build.sh"
fi
ln -f "$root"/build/image/*.tar "$out/"
