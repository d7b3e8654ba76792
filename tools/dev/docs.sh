#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes the pages that are made from the programs: docs/configuration.md, docs/cli.md, docs/metrics.md, and
# the man pages under BUILD/share/man.
#
#   tools/dev/docs.sh [--check] [BUILD]     BUILD: build/release
#
# --check writes nothing and fails where a page is not what the programs say now.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
check=
[ "${1:-}" != --check ] || { check=1; shift; }
build=$(cd "${1:-$root/build/release}" && pwd)
bin=$build/bin
programs=(ballastd ballastctl ballast-global ballast-learner ballast-lab ballast-bench)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
export COLUMNS=100

generated="Generated from the programs by \`tools/dev/docs.sh\`; do not edit."

"$bin/ballastd" --help-format configuration >"$made/configuration.md"
{
  printf '# Command lines\n\n%s `PROGRAM --help` shows the everyday flags, `--help-all` all of them.\n' "$generated"
  printf 'Exit codes of all programs: 0 done, 1 failed, 2 wrong use or configuration, 3 missing privilege or kernel feature.\n\n'
  for program in "${programs[@]}"; do
    [ -x "$bin/$program" ] || { echo "docs: $bin/$program is not built" >&2; exit 1; }
    "$bin/$program" --help-format markdown
  done
} | cat -s | sed -e '$a\' >"$made/cli.md"
{
  printf '# Metrics\n\n%s\n\n' "$generated"
  printf '## ballastd\n\n`metrics: IP:PORT` in the configuration serves them at `/metrics`. A pod that has gone keeps its last counters for five minutes; cgroups without a pod are not exported; a metric without series is left out. How many series, dashboards, alerts and OpenTelemetry: [seeing what Ballast does](observing.md).\n\n'
  "$bin/ballastd" --help-format metrics
  printf '\n## ballast-global\n\n`--operations IP:PORT` serves them at `/metrics`, `--metrics-otlp` sends them to a collector.\n\n'
  "$bin/ballast-global" --help-format metrics
} >"$made/metrics.md"

stale=0
for page in configuration cli metrics; do
  if [ -n "$check" ]; then
    diff -u "$root/docs/$page.md" "$made/$page.md" || stale=1
  else
    mkdir -p "$root/docs"
    cp "$made/$page.md" "$root/docs/$page.md"
  fi
done
for program in "${programs[@]}"; do
  "$bin/$program" --help-format man >"$made/$program"
  section=$(sed -n '1s/^\.TH [^ ]* \([18]\) .*/\1/p' "$made/$program")
  [ -n "$section" ] || { echo "docs: the man page of $program has no section" >&2; exit 1; }
  if [ -z "$check" ]; then
    mkdir -p "$build/share/man/man$section"
    cp "$made/$program" "$build/share/man/man$section/$program.$section"
  elif command -v groff >/dev/null; then
    complaints=$(groff -man -Tascii -ww "$made/$program" 2>&1 >/dev/null)
    [ -z "$complaints" ] || { printf '%s\n' "$complaints"; stale=1; }
  fi
done
[ "$stale" = 0 ] || { echo "docs: run tools/dev/docs.sh and commit what it wrote" >&2; exit 1; }
