#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/tsan.sh [TEST...]: the tests of the global network's and the fleet's server and clients under
# ThreadSanitizer; exit code 0 when it has nothing to say.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=("$@")
if [ ${#tests[@]} = 0 ]; then
  tests=(model_sync_stream_test agent_fleet_test)
fi
[ -f build/tsan/build.ninja ] || cmake --preset tsan >/dev/null
ninja -C build/tsan "${tests[@]}"
export TSAN_OPTIONS="suppressions=$PWD/tools/dev/tsan.supp halt_on_error=0 second_deadlock_stack=1 exitcode=66"
for test in "${tests[@]}"; do
  # Without randomised addresses: the runtime of g++ 12 does not know the layout of newer kernels.
  setarch -R "build/tsan/bin/tests/$test" --gtest_brief=1
done
