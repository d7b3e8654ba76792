#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/fetch.sh: what tests start and is not Debian's: Apache JMeter, the control plane of tests/mesh, the programs of
# the examples, and those of tests/cluster. Each is kept outside the tree, and what is there is not fetched again.
# Exit code 3 where something cannot be had here (no Go, no Java), 1 where it does not build.
set -uo pipefail
cd "$(dirname "$0")/../.."
worst=0
for command in tools/jmeter/fetch.sh tools/mesh/build.sh "examples/podinfo/run --build" "examples/hotrod/run --build" \
  "examples/collector/run --build" tests/cluster/programs.sh "tests/cluster/programs.sh --helm"; do
  code=0
  $command || code=$?
  case $code in
    0) ;;
    3) [ "$worst" -ne 0 ] || worst=3 ;;
    *) echo "fetch: $command ended with $code" >&2; worst=1 ;;
  esac
done
exit "$worst"
