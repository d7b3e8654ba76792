#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/lint.sh [--format | --tidy] [--all | --staged | --since COMMIT] [PRESET]
# Holds the C and C++ that changed against .clang-format and .clang-tidy; both, or one of them.
# What changed is what differs from the commit that tools/dev/base.sh names, and new files. --all takes the whole
# tree: seconds for the format, hours for clang-tidy on two cores, but for what was right before. --staged takes what
# is about to be committed.
# clang-tidy reads build/PRESET/compile_commands.json (default release) and passes over sources that are not in it.
# Exit code 1 with the places; 77, "skipped", where a tool or the build folder is missing and nothing else was wrong.
# `clang-format -i FILE` mends the format.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() { sed -n '4,11s/^# \{0,1\}//p' "$0"; }
format=true
tidy=true
scope=changed
preset=release
while [ $# -gt 0 ]; do
  case $1 in
    --format) tidy=false; shift ;;
    --tidy) format=false; shift ;;
    --all) scope=all; shift ;;
    --staged) scope=staged; shift ;;
    --since) scope=${2:?lint: --since needs a commit}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "lint: unknown argument $1" >&2; usage >&2; exit 2 ;;
    *) preset=$1; shift ;;
  esac
done

case $scope in
  all) names=$(git ls-files) ;;
  staged) names=$(git diff --cached --name-only --diff-filter=d) ;;
  *)
    [ "$scope" != changed ] || scope=$(tools/dev/base.sh)
    names=$(git diff --name-only --diff-filter=d "$scope"; git ls-files --others --exclude-standard)
    ;;
esac
mapfile -t sources < <(grep -E '\.(c|h|cpp)$' <<<"$names" | sort -u)
code=0
skipped=false

if $format && [ "${#sources[@]}" -gt 0 ]; then
  if ! command -v clang-format >/dev/null; then
    echo "lint: skipped: no clang-format (tools/deps.sh)"
    skipped=true
  else
    wrong=$(clang-format --dry-run -Werror "${sources[@]}" 2>&1 | grep -E ': error: ' | cut -d: -f1 | sort | uniq -c || true)
    if [ -n "$wrong" ]; then
      awk '{print "lint: not in the house'\''s format: " $1 " places; clang-format -i " $2}' <<<"$wrong"
      code=1
    fi
  fi
fi

if $tidy; then
  # A header is checked with the sources that include it.
  database=build/$preset/compile_commands.json
  if ! command -v clang-tidy >/dev/null || [ ! -f "$database" ]; then
    echo "lint: skipped: no clang-tidy (tools/deps.sh), or no $database (tools/build.sh)"
    skipped=true
  else
    # Warnings are errors (.clang-tidy), and what cannot be parsed is one too.
    [ "${#sources[@]}" -eq 0 ] || tools/dev/tidy.py "$database" "${sources[@]}" || code=1
  fi
fi
[ "$code" -ne 0 ] || ! $skipped || code=77
exit "$code"
