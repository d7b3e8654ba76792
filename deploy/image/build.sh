#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/image/build.sh [TAG]: the images ballast (ballastd, ballastctl, ballast-global) and ballast-learner,
# from build/release/bin and the Debian packages that own the libraries they load. buildah alone: no daemon,
# no container engine. Then starts the programs from what was built, and prints the sizes.
# Results: build/image/ballast.tar and build/image/ballast-learner.tar, OCI archives.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-0.1.0}
bin=$PWD/build/release/bin
work=$PWD/build/image
if [ "$(id -u)" -ne 0 ]; then
  echo "image: chroot and file owners need root" >&2
  exit 3
fi
if ! command -v buildah >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah >/dev/null
fi
rm -rf "$work"
mkdir -p "$work/debs"
build=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
trap 'rm -rf "$work/storage" "$work/run" "$work/debs" "$work"/*/root' EXIT

# The package that owns a library; Debian 12 knows it below / or below /usr.
owner() {
  local file=$1 real
  real=$(realpath "$file")
  for path in "$file" "${file#/usr}" "/usr$file" "$real" "${real#/usr}" "/usr$real"; do
    dpkg-query -S "$path" 2>/dev/null | head -n 1 | cut -d: -f1 && return
  done
  echo "image: no Debian package owns $file" >&2
  return 1
}

# root_of NAME PROGRAM...: the file system of one image.
root_of() {
  local name=$1 root=$work/$1/root libraries package
  shift
  mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,etc,proc,sys,tmp,run}
  ln -s usr/bin "$root/bin"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  chmod 1777 "$root/tmp"
  for program in "$@"; do
    install -m 0755 -s "$bin/$program" "$root/usr/bin/$program"
  done
  libraries=$(for program in "$@"; do ldd "$bin/$program"; done |
    awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | sort -u)
  for package in $(for library in $libraries; do owner "$library"; done | sort -u); do
    compgen -G "$work/debs/${package}_*.deb" >/dev/null ||
      (cd "$work/debs" && apt-get download -qq -o APT::Sandbox::User=root "$package")
    dpkg-deb --fsys-tarfile "$work/debs/${package}"_*.deb | tar -x --keep-directory-symlink -C "$root"
    # What scanners of images look for.
    mkdir -p "$root/var/lib/dpkg/status.d"
    dpkg-deb -f "$work/debs/${package}"_*.deb >"$root/var/lib/dpkg/status.d/$package"
  done
  # Links that packages make when they are installed (the BLAS that was chosen).
  for library in $libraries; do
    [ -e "$root$library" ] || ln -s "$(realpath "$library")" "$root$library"
  done
  # Licences stay; the rest of the documentation and what only a shell would run goes.
  find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name doc -exec rm -rf {} +
  find "$root/usr/share/doc" ! -type d ! -name copyright -delete
  find "$root/usr/bin" "$root"/usr/sbin "$root"/sbin -type f ! -name 'ballast*' -delete 2>/dev/null || true
  printf 'root:x:0:0::/:/none\nnobody:x:65532:65532::/:/none\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnobody:x:65532:\n' >"$root/etc/group"
}

image() {
  local name=$1
  root_of "$@"
  "${build[@]}" bud --quiet --isolation chroot --format oci -f deploy/image/Containerfile \
    -t "$name:$tag" "$work/$name" >/dev/null
  "${build[@]}" push --quiet "$name:$tag" "oci-archive:$work/$name.tar:$name:$tag"
}

# started NAME PROGRAM...: each program from the image itself, in a chroot of it.
started() {
  local name=$1 container mounted
  shift
  container=$("${build[@]}" from --pull-never "localhost/$name:$tag")
  mounted=$("${build[@]}" mount "$container")
  for program in "$@"; do
    chroot "$mounted" "/usr/bin/$program" --help >/dev/null ||
      { echo "image: $program does not start from $name" >&2; exit 1; }
  done
  if [ "$name" = ballast ]; then
    live "$mounted"
  fi
  "${build[@]}" rm "$container" >/dev/null
}

# ballastd for real, out of the image: eBPF loaded, a tick done, ballastctl sees it alive.
live() {
  local mounted=$1
  unshare --mount --propagation private bash -euc '
    mount --rbind /sys "$0/sys"
    mount --bind /proc "$0/proc"
    pins=/sys/fs/bpf/ballast-image-$$
    chroot "$0" /usr/bin/ballastd --bpffs "$pins" >"$1" 2>&1 &
    agent=$!
    alive=false
    for _ in $(seq 60); do
      sleep 0.5
      if chroot "$0" /usr/bin/ballastctl --bpffs "$pins" status 2>/dev/null | grep -qw alive; then
        alive=true
        break
      fi
    done
    kill "$agent"
    wait "$agent" || true
    chroot "$0" /usr/bin/ballastd --bpffs "$pins" --unload >>"$1" 2>&1
    $alive
  ' "$mounted" "$work/ballastd.log" ||
    { echo "image: ballastd did not come alive from the image:" >&2; tail "$work/ballastd.log" >&2; exit 1; }
}

image ballast ballastd ballastctl ballast-global
image ballast-learner ballast-learner
started ballast ballastd ballastctl ballast-global
started ballast-learner ballast-learner
for name in ballast ballast-learner; do
  printf '%s:%s: %s MB unpacked, %s MB as an OCI archive (build/image/%s.tar); its programs start\n' \
    "$name" "$tag" "$(du -sm "$work/$name/root" | cut -f1)" "$(du -sm "$work/$name.tar" | cut -f1)" "$name"
done
