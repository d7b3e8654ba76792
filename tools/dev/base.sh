#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/dev/base.sh: the commit that "changed" is told from: where this branch left `main` (here or at origin); on
# `main` itself what is not committed yet, or the last commit where everything is.
set -euo pipefail
cd "$(dirname "$0")/../.."
main=$(git rev-parse --verify --quiet main || git rev-parse --verify --quiet origin/main || git rev-parse HEAD)
base=$(git merge-base HEAD "$main")
if [ "$base" = "$(git rev-parse HEAD)" ] && [ -z "$(git status --porcelain)" ]; then
  base=$(git rev-parse --verify --quiet HEAD~1 || echo "$base")
fi
echo "$base"
