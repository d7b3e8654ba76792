#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/build.sh [--for demo|build|test] [PRESET [TARGET...]]
# Installs what is missing and builds a preset (release, debug, asan, tsan): everything, or the targets named.
# --for names the set of packages (tools/deps.sh): `demo` builds without LibTorch and without tests, `build` without
# tests; the default is `test`. A folder that was configured for more stays so.
# The programs lie in build/PRESET/bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=test
if [ "${1:-}" = --for ]; then
  purpose=${2:?build: --for needs demo, build or test}
  shift 2
fi
preset=${1:-release}
[ $# -eq 0 ] || shift
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(all)
folder=build/$preset
log=build/build-$preset.log
tools/deps.sh "$purpose"

# Options that this purpose needs on, and those that a new folder does without.
needs=()
without=()
case $preset in
  asan | tsan) ;; # the learner is not theirs: CMakePresets.json
  *) if [ "$purpose" = demo ]; then without+=(TORCH); else needs+=(TORCH); fi ;;
esac
if [ "$purpose" = test ]; then needs+=(TESTS); else without+=(TESTS); fi

arguments=()
if [ -f "$folder/build.ninja" ]; then
  for option in "${needs[@]}"; do
    grep -qs "^BALLAST_WITH_$option:BOOL=ON" "$folder/CMakeCache.txt" || arguments+=("-DBALLAST_WITH_$option=ON")
  done
else
  for option in "${needs[@]}"; do arguments+=("-DBALLAST_WITH_$option=ON"); done
  for option in "${without[@]}"; do arguments+=("-DBALLAST_WITH_$option=OFF"); done
fi
if [ "${#arguments[@]}" -gt 0 ]; then
  cmake --preset "$preset" "${arguments[@]}" >"build/configure-$preset.log" 2>&1 ||
    { tail -n 30 "build/configure-$preset.log" >&2; exit 1; }
fi

# Ninja's own lines, in place on a terminal; else a line every tenth of the way.
progress() {
  if [ -t 1 ]; then
    stdbuf -o0 tr '\n' '\r'
    echo
  else
    local tenth last=0
    while IFS= read -r line; do
      if [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] && [ "${BASH_REMATCH[2]}" -gt 20 ]; then
        tenth=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
        [ "$tenth" -le "$last" ] || echo "build: ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps"
        last=$tenth
      fi
    done
  fi
}
echo "build: $preset (log: $log)"
cmake --build "$folder" --target "${targets[@]}" 2>&1 | tee "$log" | progress ||
  { grep -A12 -E 'FAILED|error:' "$log" >&2; exit 1; }
