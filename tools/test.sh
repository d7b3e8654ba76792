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

# run PART ARGUMENT...: ctest of a part, PRESET or PRESET-NAME; results as files, the verdict comes from the count. Of a
# program that failed the failures alone are shown, which a log that is cut short still holds.
run() {
  local part=$1 preset=${1%%-*}
  shift
  mkdir -p "$results/$part/gtest"
  GTEST_BRIEF=1 GTEST_OUTPUT="json:$PWD/$results/$part/gtest/" \
    ctest --test-dir "build/$preset" "$@" --output-on-failure --no-tests=error \
    --output-junit "$PWD/$results/$part/ctest.xml" || true
}

# again PART LABELS: those of the labels that failed are run once more, into results of their own: whole systems under
# load share two cores with whatever else a machine does. What passed at the second try alone is named at the end.
again() {
  local part=$1 names
  names=$(tools/dev/count_tests.py --failed "$results/$part" "build/${part%%-*}" "$2")
  [ -n "$names" ] || return 0
  echo "test: a second try for $names"
  run "$part-again" --tests-regex "^(${names// /|})\$"
}

# skip PART NAME WHY: what was not begun counts as one skipped test, and says why.
skip() {
  echo "test: $2 skipped: $3"
  mkdir -p "$results/$1"
  printf '<testsuite><testcase name="%s" status="notrun"/></testsuite>\n' "$2" >"$results/$1/ctest.xml"
}

# left SECONDS: what is left of so many seconds since this script began; 1 where they are over (0 is for ever to timeout).
began=$(date +%s)
left() { local rest=$((began + $1 - $(date +%s))); echo $((rest > 0 ? rest : 1)); }

# beside NAME COMMAND...: in the time that nothing else wants, into build/test-NAME.log, as a session of its own
# (`session[NAME]`). What is still at it when this script ends is ended with it.
declare -A session=()
beside() {
  local name=$1
  shift
  # A session is a group of its own to the scheduler, where the idle class gives way to its own processes alone.
  setsid bash -c 'echo 19 2>/dev/null >/proc/self/autogroup || true; exec nice -n 19 chrt --idle 0 "$@"' - \
    "$@" >"build/test-$name.log" 2>&1 &
  session[$name]=$!
}
end_beside() {
  local name
  for name in "${!session[@]}"; do pkill --session "${session[$name]}" || true; done
}
trap end_beside EXIT

# done_within NAME SECONDS: waits for it, as there is nothing else to do now, at everybody's priority. Its exit code, or
# 124 (and its end) where it is not done by then.
done_within() {
  local leader=${session[$1]} process code=0
  for process in $(pgrep --session "$leader"); do
    chrt --other --pid 0 "$process" 2>/dev/null && renice -n 0 -p "$process" >/dev/null 2>&1 || true
    echo 0 2>/dev/null >"/proc/$process/autogroup" || true
  done
  timeout "$2" tail --pid="$leader" -f /dev/null || { code=124; pkill --session "$leader" || true; }
  [ "$code" -ne 0 ] || wait "$leader" || code=$?
  unset "session[$1]"
  return "$code"
}

# Tests of the tree itself (label `tree`: walls, pages, format and clang-tidy of what changed) are in every scope, but
# for clang-tidy in the inner loop: it takes ten seconds of a core a source.
quick='^(unit|bpf|tree)$'
case $scope in
  whole)
    # A whole Kubernetes (tests/cluster, some five minutes with its images) is not begun later than this; it is skipped
    # then.
    export BALLAST_CLUSTER_BEGIN_BY=$(($(date +%s) + ${BALLAST_CLUSTER_BEGIN_S:-2400}))
    # Most tests wait most of the time, and all but a few run alone: what they leave of the cores fetches and builds what
    # is needed later (label `fetched`), outside the tree and once on a machine: JMeter, the control plane of tests/mesh,
    # programs of the examples, a Kubernetes. So many seconds after the other tests, and with 0, what is not there is not
    # waited for.
    limit=${BALLAST_MESH_BUILD_S:-600}
    # On a machine that has built nothing before, the sanitizers may not be built by then: skipped, with the fuzzing that
    # runs beside them.
    sanitizers_by=${BALLAST_SANITIZERS_BY_S:-4500}
    tools/deps.sh test
    [ "$limit" -eq 0 ] || beside fetched tools/dev/fetch.sh
    tools/build.sh release
    beside asan bash -c '[ -z "$1" ] || tail --pid="$1" -f /dev/null; exec tools/build.sh asan unit_tests' - \
      "${session[fetched]:-}"
    run release --label-exclude '^(fetched|fuzz)$' --parallel 2
    if [ "$limit" -ne 0 ]; then
      code=0
      done_within fetched "$limit" || code=$?
      [ "$code" -eq 0 ] || tail -n 30 build/test-fetched.log >&2
      [ "$code" -ne 124 ] || echo "test: not fetched $limit s after the tests (BALLAST_MESH_BUILD_S)" >&2
      [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || [ "$code" -eq 124 ] || exit 1
    fi
    run release-fetched --label-regex '^fetched$'
    again release '^(fault|mesh)$'
    again release-fetched '^(fault|mesh|cluster)$'
    code=0
    done_within asan "$(left "$sanitizers_by")" || code=$?
    case $code in
      0)
        (renice -n 19 "$BASHPID" && chrt --idle --pid 0 "$BASHPID" && run release-fuzz --label-regex '^fuzz$' --parallel 2) \
          >build/test-fuzz.log 2>&1 &
        run asan --label-regex '^unit$' --parallel 2
        wait
        cat build/test-fuzz.log
        ;;
      124)
        skip asan sanitizers "not built $sanitizers_by s after the begin (BALLAST_SANITIZERS_BY_S)"
        skip release-fuzz fuzzing "for the same reason"
        ;;
      *) cat build/test-asan.log >&2; exit 1 ;;
    esac
    ;;
  quick)
    tools/build.sh release
    run release --label-regex "$quick" --parallel 2
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
    run release --tests-regex "^($(echo $chosen $tree | tr ' ' '|'))\$" --parallel 2
    ;;
esac
python3 tools/dev/count_tests.py "$results"
