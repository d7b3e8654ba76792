#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/fresh.sh [--limit SECONDS] [COMMAND...]
# A fresh Debian 12 below build/fresh (mmdebstrap, made once), a clone of this commit in it, and COMMAND there (default
# tools/demo.sh --seconds 5) with the seconds since its start before each line. Closes with the time to the first
# live table, installing included; exit code 1 when that took longer than the limit (default 360) or never came.
# As root, on an idle machine. The kernel, its cgroups and bpffs are this machine's; nothing else is.
set -euo pipefail
usage() { sed -n '4,8s/^# \{0,1\}//p' "$0"; }
limit=360
while [ $# -gt 0 ]; do
  case $1 in
    --limit) limit=${2:?fresh: --limit needs seconds}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "fresh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || set -- tools/demo.sh --seconds 5
if [ "$(id -u)" -ne 0 ]; then
  echo "fresh: it makes a root file system and mounts: run it as root" >&2
  exit 3
fi
cd "$(dirname "$0")/../.."
work=$PWD/build/fresh
root=$work/root
mkdir -p "$work"
rm -f "$work/first"

# How this machine reaches its package registries: apt's Acquire options, pip's files, and whom both trust there.
apt-config dump | grep '^Acquire' >"$work/apt.conf" || true
if [ ! -e "$work/debian.tar" ]; then
  if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  fi
  echo "fresh: making a Debian 12 (once)"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates --aptopt="$work/apt.conf" bookworm \
    "$work/debian.tar.new.tar" http://deb.debian.org/debian >"$work/mmdebstrap.log" 2>&1 ||
    { tail -n 20 "$work/mmdebstrap.log" >&2; exit 1; }
  mv "$work/debian.tar.new.tar" "$work/debian.tar"
fi
rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$work/debian.tar"
cp "$work/apt.conf" "$root/etc/apt/apt.conf.d/99fresh"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
for path in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt "${PIP_CERT:-}" "${PIP_FIND_LINKS:-}"; do
  [ -z "$path" ] || [ ! -e "$path" ] ||
    { mkdir -p "$root$(dirname "$path")" && cp -rL --remove-destination "$path" "$root$(dirname "$path")/"; }
done
git clone -q --no-hardlinks . "$root/ballast"

export BALLAST_FRESH_ROOT=$root
start=$SECONDS
first=""
# A mount namespace of its own: what is mounted goes with it.
unshare --mount --propagation private bash -euc '
  root=$BALLAST_FRESH_ROOT
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mountpoint -q /sys/fs/bpf || mount -t bpf bpf "$root/sys/fs/bpf"
  exec chroot "$root" /usr/bin/env -u LD_LIBRARY_PATH HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    bash -c "cd /ballast && exec \"\$@\"" fresh "$@"' fresh "$@" 2>&1 |
  while IFS= read -r line; do
    printf '%4d s  %s\n' "$((SECONDS - start))" "$line"
    if [ -z "$first" ] && [[ $line == service*pod*weight* ]]; then
      first=$((SECONDS - start))
      echo "$first" >"$work/first"
    fi
  done || true
first=$(cat "$work/first" 2>/dev/null || true)
rm -f "$work/first"
if [ -z "$first" ]; then
  echo "fresh: no live table came" >&2
  exit 1
fi
echo "fresh: the first live table came after $first s (limit $limit s) on $(nproc) cores"
[ "$first" -le "$limit" ]
