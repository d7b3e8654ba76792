#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/images.sh: what the nodes import, into build/cluster/images: Ballast's images (deploy/image/build.sh), the
# sandbox's, and Debian's nginx, which counts its requests itself.
set -euo pipefail
. "$(dirname "$0")/env.sh"
out=$run/images
mkdir -p "$out"
work=$(mktemp -d)
store=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
trap 'rm -rf "$work"' EXIT

image() { # image NAME ENTRYPOINT: from $work/NAME
  printf 'FROM scratch\nCOPY root/ /\nUSER 65532:65532\nENTRYPOINT %s\n' "$2" >"$work/$1/Containerfile"
  "${store[@]}" bud --quiet --isolation chroot --format oci -t "localhost/$1:1" "$work/$1" >/dev/null
  "${store[@]}" push --quiet "localhost/$1:1" "oci-archive:$out/.$1.tar:localhost/$1:1"
  mv "$out/.$1.tar" "$out/$1.tar"
}
if [ ! -s "$out/pause.tar" ]; then
  mkdir -p "$work/pause/root"
  gcc -O2 -static -s -o "$work/pause/root/pause" "$here/images/pause.c"
  image pause '["/pause"]'
fi
if [ ! -s "$out/nginx.tar" ]; then
  files=$work/nginx/root
  mkdir -p "$files"/{etc/nginx,usr/sbin,tmp,var/log/nginx}
  chmod 1777 "$files/tmp"
  cp /usr/sbin/nginx "$files/usr/sbin/"
  ldd /usr/sbin/nginx | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | while read -r library; do
    mkdir -p "$files$(dirname "$library")"
    cp -L "$library" "$files$library"
  done
  printf 'root:x:0:0::/:/none\nnobody:x:65532:65532::/:/none\n' >"$files/etc/passwd"
  printf 'root:x:0:\nnobody:x:65532:\nnogroup:x:65533:\n' >"$files/etc/group"
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
# Ballast's own, made anew where a program is newer than the archive.
newest=$(ls -t "$root"/build/release/bin/{ballastd,ballastctl,ballast-global,ballast-learner} | head -n 1)
if [ ! -s "$root/build/image/ballast-learner.tar" ] || [ "$newest" -nt "$root/build/image/ballast-learner.tar" ]; then
  "$root/deploy/image/build.sh"
fi
ln -f "$root"/build/image/*.tar "$out/"
