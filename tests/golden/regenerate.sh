#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the golden files anew, for a change that is meant to change what they hold: say in the commit why,
# and look at the difference. Needs golden_simulator_test and golden_loop_test of the release build.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export BALLAST_SOURCE_DIR=$root BALLAST_REGENERATE=1
for suite in golden_simulator_test golden_loop_test; do
  "$root/build/release/bin/tests/$suite" "$@"
done
git -C "$root" --no-pager diff --stat -- tests/golden
