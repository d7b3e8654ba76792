#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/render.sh HELM [--check]: deploy/daemonset/base from the chart with its default values, one file a template.
# HELM is the helm program (tests/cluster/run builds one). --check changes nothing: exit code 1 where a file differs.
set -euo pipefail
helm=$(realpath "${1:?usage: deploy/render.sh HELM [--check]}")
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$helm" template ballast helm/ballast --namespace ballast-system --kube-version 1.30.0 --set mode=off >"$out/all"
python3 - "$out" <<'P'
import re
import sys

out = sys.argv[1]
files = {}
for part in re.split(r'^---\n', open(f'{out}/all').read(), flags=re.M):
    found = re.match(r'# Source: ballast/templates/(\S+)\n', part)
    if found:
        # The licence line and the remarks of a file stand above its first object.
        files.setdefault(found[1], []).append(part[found.end():].strip('\n'))
for name, parts in files.items():
    text = '\n---\n'.join(parts) + '\n'
    # kustomize names its ConfigMap by its content, which rolls the agents.
    text = re.sub(r'\n +# A changed configuration rolls.*\n +ballast.dev/config: .*', '', text)
    if name == 'config.yaml':
        body = text[text.index('ballastd.yaml: |\n') + len('ballastd.yaml: |\n'):]
        name, text = 'ballastd.yaml', '# SPDX-License-Identifier: Apache-2.0\n' + re.sub(r'^    ', '', body, flags=re.M)
    open(f'{out}/{name}', 'w').write(text)
P
rm "$out/all"
for file in "$out"/*; do
  name=${file##*/}
  if [ "${2:-}" != --check ]; then
    install -m 0644 "$file" "daemonset/base/$name"
  elif ! diff -u "daemonset/base/$name" "$file"; then
    echo "render: deploy/daemonset/base/$name is not the chart's: run deploy/render.sh" >&2
    exit 1
  fi
done
