#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/pictures/make.sh [--seconds N] [--from FOLDER]
# Makes the stills of README.md: runs tools/demo.sh in a terminal of tmux, takes the live table in the middle of
# Ballast's arm and the comparison at the end, and draws both, wide and narrow, into docs/pictures. As root, on an idle
# machine: what is seen is what was measured. --from draws the screens that an earlier run left in FOLDER.
set -euo pipefail
usage() { sed -n '4,8s/^# \{0,1\}//p' "$0"; }
seconds=30
screens=""
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?pictures: --seconds needs a number}; shift 2 ;;
    --from) screens=$(realpath "${2:?pictures: --from needs a folder}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "pictures: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done
cd "$(dirname "$0")/../.."
pictures=docs/pictures
mkdir -p "$pictures"

if [ -z "$screens" ]; then
  screens=build/pictures
  mkdir -p "$screens"
  rm -f "$screens"/*
  tools/build.sh --for demo release ballastd ballast-lab
  terminal=(tmux -L "ballast-pictures-$$")
  trap '"${terminal[@]}" kill-server 2>/dev/null || true' EXIT
  "${terminal[@]}" new-session -d -x 150 -y 60 "tools/demo.sh --seconds $seconds; sleep 600"
  look() { "${terminal[@]}" capture-pane -p -t 0; }
  limit=$((SECONDS + 120 + 4 * (seconds + 30)))
  until look | grep -q '^report: '; do
    # The last arm's table as it stands from here on: the newest still is kept.
    if look | grep -qE "^demo +ballast +$((seconds / 2))" || [ -s "$screens/live.txt" ]; then
      [ "$(look | grep -c '^round ')" -lt 4 ] || [ -s "$screens/live.txt" ] ||
        look | awk '/^round /{text = ""; next} /^$/{exit} {text = text $0 "\n"} END {printf "%s", text}' >"$screens/live.txt"
    fi
    [ "$SECONDS" -lt "$limit" ] || { echo "pictures: the demo did not end; its screen:" >&2; look >&2; exit 1; }
    sleep 1
  done
  # From the last line that begins so: the first ones tell what was installed and built.
  look | awk '/^demo: /{text = ""} {text = text $0 "\n"} END {printf "%s", text}' | sed '/^report: /,$d' >"$screens/comparison.txt"
fi

draw() { docs/pictures/terminal_svg.py "${@:3}" <"$screens/$1" >"$pictures/$2.new" && mv "$pictures/$2.new" "$pictures/$2"; }
draw live.txt live.svg
draw live.txt live-narrow.svg --columns "pod,req/s,p99 ms,CPU/quota,weight"
draw comparison.txt comparison.svg --mark "ballast  " --columns "policy,requests,p50 ms,p90 ms,p99 ms,failed,p99 / least_request,weights"
draw comparison.txt comparison-narrow.svg --mark "ballast  " --columns "policy,p50 ms,p99 ms,failed"
ls -l "$pictures"
