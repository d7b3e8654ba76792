#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/pictures/page.sh [--from FILE.html] [--seconds N] [--load X]
# Makes docs/pictures/page.png and page-phone.png: runs the lab's demo under least_request and ballast (N seconds each,
# default 30; as root), and looks at the page that it writes in headless Chromium, 1100 and 390 px wide. --from looks
# at a page that is there. --load as ballast-lab has it: little on a machine that does other work. A picture of more
# than 300 KB is an error.
set -euo pipefail
page=""
seconds=30
load=()
while [ $# -gt 0 ]; do
  case $1 in
    --from) page=$(realpath "${2:?page: --from needs a file}"); shift 2 ;;
    --seconds) seconds=${2:?page: --seconds needs a number}; shift 2 ;;
    --load) load=(--load "${2:?page: --load needs a number}"); shift 2 ;;
    -h | --help) sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "page: unknown argument $1" >&2; exit 2 ;;
  esac
done
cd "$(dirname "$0")/../.."
command -v chromium >/dev/null || { echo "page: no chromium (docs/pictures/screens.sh installs it)" >&2; exit 1; }
if [ -z "$page" ]; then
  page=$PWD/build/page.html
  build/release/bin/ballast-lab run --scenario demo --policy least_request,ballast --no-learner --no-live \
    --duration "$seconds" "${load[@]}" --report-page "$page"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A window below 500 px is not to be had; a frame of that width is.
printf '<!doctype html><body style="margin:0;background:#bbb"><iframe src="file://%s" style="%s"></iframe>' "$page" \
  "display:block;margin:0 auto;border:0;width:390px;height:1500px;background:#fff" >"$folder/phone.html"
look() {
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
    --window-size="$3" --screenshot="$folder/$1" "file://$2" >/dev/null 2>&1
  size=$(stat -c %s "$folder/$1")
  [ "$size" -le 307200 ] || { echo "page: $1 has $size bytes, at most 307200" >&2; exit 1; }
  install -m 0644 "$folder/$1" "docs/pictures/$1"
  echo "docs/pictures/$1: $size bytes"
}
look page.png "$page" 1100,1180
look page-phone.png "$folder/phone.html" 500,1500
