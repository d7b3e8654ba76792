#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/test.sh [--quick]: builds and runs the tests; closes with "N passed, N failed, N skipped".
# --quick leaves out the fault and lab tests (real processes under load) and the sanitizer build.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  *) echo "usage: tools/test.sh [--quick]" >&2; exit 2 ;;
esac

results=build/test-results
rm -rf "$results"
mkdir -p "$results"

# run PRESET LABEL-REGEX: ctest of one preset; results as files, the verdict comes from the count. Of a program
# that failed the failures alone are shown, which a log that is cut short still holds.
run() {
  local preset=$1 labels=$2
  mkdir -p "$results/$preset/gtest"
  GTEST_BRIEF=1 GTEST_OUTPUT="json:$PWD/$results/$preset/gtest/" \
    ctest --test-dir "build/$preset" --label-regex "$labels" --parallel 2 --output-on-failure --no-tests=error \
    --output-junit "$PWD/$results/$preset/ctest.xml" || true
}

tools/build.sh release
# The control plane of tests/mesh, outside the tree and made once on a machine. What is not ready in time makes those
# tests skipped, and counted so; Go's cache keeps what was compiled until then for the next time.
if ! $quick; then
  limit=${BALLAST_MESH_BUILD_S:-900}
  code=0
  timeout --kill-after=10 "$limit" tools/mesh/build.sh || code=$?
  [ "$code" -ne 124 ] || echo "mesh: not built within $limit s (BALLAST_MESH_BUILD_S); its tests will be skipped" >&2
  [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || [ "$code" -eq 124 ] || exit 1
fi
if $quick; then
  run release '^(unit|bpf)$'
else
  run release '.*'
  tools/build.sh asan unit_tests
  run asan '^unit$'
fi
python3 tools/dev/count_tests.py "$results"
