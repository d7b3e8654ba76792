#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/image/build.sh [TAG]: the images ballast (ballastd, ballastctl, ballast-global), ballast-learner and
# ballast-bench (deploy/kubeflow), from build/release/bin and the Debian packages that own the libraries they load.
# buildah alone: no daemon, no container engine. Then starts the programs from what was built, and prints the sizes.
# Results: build/image/NAME.tar, OCI archives, byte for byte the same for the same programs and packages, and beside each
# what is in it (CycloneDX; scan.py reads it). BALLAST_IMAGE_KEY=KEY.pem signs both (sign.sh). BALLAST_IMAGES="NAME..."
# makes these alone.
set -euo pipefail
[ -z "${BALLAST_IMAGE_KEY:-}" ] || BALLAST_IMAGE_KEY=$(realpath -e "$BALLAST_IMAGE_KEY")
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
declare -A programs=([ballast]="ballastd ballastctl ballast-global" [ballast-learner]=ballast-learner [ballast-bench]=ballast-bench)
read -ra names <<<"${BALLAST_IMAGES:-ballast ballast-learner ballast-bench}"
for name in "${names[@]}"; do
  [ -n "${programs[$name]:-}" ] || { echo "image: there is no $name (BALLAST_IMAGES)" >&2; exit 2; }
done
rm -rf "$work"
mkdir -p "$work/debs"
build=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
trap 'rm -rf "$work/storage" "$work/run" "$work/debs" "$work"/*/root' EXIT

# owners FILE...: the packages that own these libraries; Debian 12 knows them below / or below /usr.
owners() {
  python3 - "$@" <<'P'
import os
import subprocess
import sys

paths = {f: [f, f.removeprefix('/usr'), '/usr' + f] for f in sys.argv[1:]}
for file, tries in paths.items():
    tries += [t for r in [os.path.realpath(file)] for t in (r, r.removeprefix('/usr'), '/usr' + r)]
wanted = sorted({t for tries in paths.values() for t in tries})
said = subprocess.run(['dpkg-query', '-S', *wanted], capture_output=True, text=True, check=False).stdout
owner = {path: names.split(',')[0].split(':')[0] for names, path in (line.split(': ', 1) for line in said.splitlines()
                                                                    if not line.startswith('diversion '))}
nobody = [f for f, tries in paths.items() if not any(t in owner for t in tries)]
if nobody:
    sys.exit('image: no Debian package owns ' + ' '.join(nobody))
print(*sorted({next(owner[t] for t in tries if t in owner) for tries in paths.values()}))
P
}

# In the place of these there are stubs (stub.py), and what they alone load is left out.
stubs=(libgdal.so.32 libavcodec.so.59 libavformat.so.59)

# loads FILE: the paths of the libraries that it loads, those of stubs' own excepted.
loads() {
  python3 - "$1" "${stubs[@]}" <<'P'
import re
import subprocess
import sys

def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

program, stubs = sys.argv[1], set(sys.argv[2:])
paths = dict(re.findall(r'^\s*(\S+) => (/\S+)', said('ldd', program), re.M))
paths.update((p.rsplit('/', 1)[1], p) for p in re.findall(r'^\s*(/\S+) \(', said('ldd', program), re.M))
seen, open_ = set(), [program]
while open_:
    for name in re.findall(r'NEEDED.*\[(.*)\]', said('readelf', '-d', open_.pop())):
        if name in paths and name not in seen and name not in stubs:
            seen.add(name)
            open_.append(paths[name])
print(*sorted(paths[name] for name in seen), sep='\n')
P
}

# root_of NAME PROGRAM...: the file system of one image.
root_of() {
  local name=$1 root=$work/$1/root libraries packages package
  shift
  mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,etc,proc,sys,tmp,run}
  ln -s usr/bin "$root/bin"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  chmod 1777 "$root/tmp"
  for program in "$@"; do
    install -m 0755 -s "$bin/$program" "$root/usr/bin/$program"
  done
  libraries=$(for program in "$@"; do loads "$bin/$program"; done | sort -u)
  # shellcheck disable=SC2086
  packages=$(owners $libraries)
  # shellcheck disable=SC2086
  (cd "$work/debs" && apt-get download -qq -o APT::Sandbox::User=root $packages)
  for package in $packages; do
    dpkg-deb --fsys-tarfile "$work/debs/${package}"_*.deb | tar -x --keep-directory-symlink -C "$root"
    # What scanners of images look for.
    mkdir -p "$root/var/lib/dpkg/status.d"
    dpkg-deb -f "$work/debs/${package}"_*.deb >"$root/var/lib/dpkg/status.d/$package"
  done
  # Links that packages make when they are installed (the BLAS that was chosen).
  for library in $libraries; do
    [ -e "$root$library" ] || ln -s "$(realpath "$library")" "$root$library"
  done
  # Of the packages the libraries that are loaded, and no others.
  keep=$(for library in $libraries; do
    while echo "$library" && [ -L "$library" ]; do
      library=$(realpath --no-symlinks "$(dirname "$(realpath "$(dirname "$library")")/x")/$(basename "$library")")
      library=$(realpath --no-symlinks "$(readlink "$library" | grep ^/ || echo "$(dirname "$library")/$(readlink "$library")")")
    done
  done | sed 's#^/usr/#/#; s#^/##' | sort -u)
  find "$root/usr/lib" "$root/usr/lib64" ! -type d | while read -r file; do
    grep -qxF "${file#"$root"/usr/}" <<<"$keep" || rm "$file"
  done
  mkdir -p "$root/usr/share/doc/ballast"
  for stub in "${stubs[@]}"; do
    library=$(for program in "$@"; do ldd "$bin/$program"; done | awk -v name="$stub" '$1 == name {found = $3} END {print found}')
    [ -n "$library" ] || continue
    deploy/image/stub.py "$library" "$root/usr/lib" "$root/usr/lib/x86_64-linux-gnu/$stub"
    echo "A stub: the functions of $stub end the process." >"$root/usr/share/doc/ballast/stub-$stub"
  done
  find "$root" -depth -type d -empty ! -path "$root/proc" ! -path "$root/sys" ! -path "$root/tmp" ! -path "$root/run" -delete
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
  deploy/image/sbom.py "$name" "$tag" "$work/$name/root" >"$work/$name.cdx.json"
  find "$work/$name/root" -exec touch --no-dereference --date=@0 {} +
  "${build[@]}" bud --quiet --isolation chroot --format oci --timestamp 0 -f deploy/image/Containerfile \
    -t "localhost/$name:$tag" "$work/$name" >/dev/null
  # `localhost/` is no registry that anybody could be asked for it: the name that the manifests have.
  "${build[@]}" push --quiet "localhost/$name:$tag" "oci:$work/$name/oci:localhost/$name:$tag"
  tar --create --file "$work/$name.tar" --directory "$work/$name/oci" --sort=name --mtime=@0 --owner=0 --group=0 \
    --numeric-owner .
  rm -r "$work/$name/oci"
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

for name in "${names[@]}"; do
  # shellcheck disable=SC2086
  image "$name" ${programs[$name]}
  # shellcheck disable=SC2086
  started "$name" ${programs[$name]}
done
if [ -n "${BALLAST_IMAGE_KEY:-}" ]; then
  deploy/image/sign.sh "$BALLAST_IMAGE_KEY" "$work"/*.tar "$work"/*.cdx.json
fi
for name in "${names[@]}"; do
  printf '%s:%s: %s MB unpacked, %s MB as an OCI archive (build/image/%s.tar); its programs start\n' \
    "$name" "$tag" "$(du -sm "$work/$name/root" | cut -f1)" "$(du -sm "$work/$name.tar" | cut -f1)" "$name"
done
