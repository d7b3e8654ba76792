#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/build.sh [PRESET [TARGET]]: installs what is missing and builds a preset (release, debug, asan), or
# one target of it (unit_tests).
# The programs lie in build/PRESET/bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
target=${2:-all}
tools/deps.sh
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >"build/configure-$preset.log" 2>&1 ||
  { tail -n 30 "build/configure-$preset.log" >&2; exit 1; }
log=build/build-$preset.log
echo "build: $preset (log: $log)"
if [ -t 1 ]; then
  cmake --build "build/$preset" --target "$target" 2>&1 | tee "$log" | stdbuf -o0 tr '\n' '\r' ||
    { echo; grep -A12 -E 'FAILED|error:' "$log" >&2; exit 1; }
  echo
else
  cmake --build "build/$preset" --target "$target" >"$log" 2>&1 || { grep -A12 -E 'FAILED|error:' "$log" >&2; exit 1; }
fi
