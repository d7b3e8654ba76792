#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/tsan.sh [TEST...]: the tests of the global network's and the fleet's server and clients under
# ThreadSanitizer; exit code 0 when it has nothing to say. Nothing is suppressed: what gRPC does inside is told
# by tools/dev/tsan_grpc.cpp.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=("$@")
if [ ${#tests[@]} = 0 ]; then
  tests=(model_sync_stream_test agent_fleet_test)
fi
[ -f build/tsan/build.ninja ] || cmake --preset tsan >/dev/null
ninja -C build/tsan "${tests[@]}"
locks="$PWD/build/tsan/tsan_grpc.so"
c++ -std=c++20 -O1 -fPIC -shared -o "$locks" tools/dev/tsan_grpc.cpp -ltsan -ldl
# What libraries that are not instrumented do between themselves is not looked at.
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=0 second_deadlock_stack=1 exitcode=66"
for test in "${tests[@]}"; do
  # Without randomised addresses: the runtime of g++ 12 does not know the layout of newer kernels.
  LD_PRELOAD="$locks" setarch -R "build/tsan/bin/tests/$test" --gtest_brief=1
done
