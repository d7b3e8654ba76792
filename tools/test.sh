#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/test.sh [--quick | --changed [COMMIT]]
# Builds and runs the tests; closes with "N passed, N failed, N skipped".
# --quick leaves out the fault and lab tests (real processes under load) and the sanitizer build.
# --changed, the inner loop: of the quick ones those that depend on what changed since COMMIT (tools/dev/base.sh says
# since when otherwise), and only these are built. Names the longer ones that depend on it too, and leaves them to you.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '4,8s/^# \{0,1\}//p' "$0"; }
scope=whole
since=""
case "${1:-}" in
  "") ;;
  --quick) scope=quick; shift ;;
  --changed) scope=changed; since=${2:-}; shift; [ -z "$since" ] || shift ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
[ $# -eq 0 ] || { usage >&2; exit 2; }

results=build/test-results
rm -rf "$results"
mkdir -p "$results"

# run PRESET ARGUMENT...: ctest of one preset; results as files, the verdict comes from the count. Of a program
# that failed the failures alone are shown, which a log that is cut short still holds.
run() {
  local preset=$1
  shift
  mkdir -p "$results/$preset/gtest"
  GTEST_BRIEF=1 GTEST_OUTPUT="json:$PWD/$results/$preset/gtest/" \
    ctest --test-dir "build/$preset" "$@" --parallel 2 --output-on-failure --no-tests=error \
    --output-junit "$PWD/$results/$preset/ctest.xml" || true
}

# again PRESET LABELS: those of the labels that failed are run once more, into results of their own: whole systems under
# load share two cores with whatever else a machine does. What passed at the second try alone is named at the end.
again() {
  local preset=$1 names
  names=$(tools/dev/count_tests.py --failed "$results/$preset" "build/$preset" "$2")
  [ -n "$names" ] || return 0
  echo "test: a second try for $names"
  mkdir -p "$results/$preset-again/gtest"
  GTEST_BRIEF=1 GTEST_OUTPUT="json:$PWD/$results/$preset-again/gtest/" \
    ctest --test-dir "build/$preset" --tests-regex "^(${names// /|})\$" --output-on-failure \
    --output-junit "$PWD/$results/$preset-again/ctest.xml" || true
}

# Tests of the tree itself (label `tree`: walls, pages, format and clang-tidy of what changed) are in every scope, but
# for clang-tidy in the inner loop: it takes ten seconds of a core a source.
quick='^(unit|bpf|tree)$'
case $scope in
  whole)
    tools/build.sh release
    # The control plane of tests/mesh, outside the tree and made once on a machine, is built within this many seconds;
    # else, and with 0, its tests count as skipped.
    limit=${BALLAST_MESH_BUILD_S:-900}
    code=0
    [ "$limit" -eq 0 ] || timeout --kill-after=10 "$limit" tools/mesh/build.sh || code=$?
    [ "$code" -ne 124 ] || echo "mesh: not built within $limit s (BALLAST_MESH_BUILD_S); its tests will be skipped" >&2
    [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || [ "$code" -eq 124 ] || exit 1
    run release --label-regex '.*'
    again release '^(fault|mesh)$'
    tools/build.sh asan unit_tests
    run asan --label-regex '^unit$'
    ;;
  quick)
    tools/build.sh release
    run release --label-regex "$quick"
    ;;
  changed)
    since=${since:-$(tools/dev/base.sh)}
    changed=$(git diff --name-only "$since"; git ls-files --others --exclude-standard)
    # The build folder has to know new files.
    if [ -f build/release/build.ninja ]; then cmake build/release >/dev/null; else tools/build.sh release help >/dev/null; fi
    tests=$(tools/dev/changed_tests.py build/release <<<"$changed")
    # ctest writes its list only for programs that it would run; names alone are asked for here.
    inner=$(ctest --test-dir build/release --label-regex "$quick" -N | awk '$1 == "Test" {print $NF}')
    tree=$(ctest --test-dir build/release --label-regex '^tree$' --exclude-regex '^lint_tidy$' -N | awk '$1 == "Test" {print $NF}')
    chosen=$(grep -Fxf <(echo "$inner") <<<"$tests" || true)
    longer=$(grep -vFxf <(echo "$inner") <<<"$tests" || true)
    echo "test: $(grep -c . <<<"$changed" || true) files changed since ${since:0:12}; tests that depend on them:" \
      ${chosen:-none}
    [ -z "$longer" ] || echo "test: longer ones that depend on them too, not run:" $longer
    [ -z "$chosen" ] || tools/build.sh release $chosen
    run release --tests-regex "^($(echo $chosen $tree | tr ' ' '|'))\$"
    ;;
esac
python3 tools/dev/count_tests.py "$results"
