#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/jmeter/fetch.sh: Apache JMeter of pom.xml's version from Maven Central, laid out as its own distribution is, in
# ${BALLAST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ballast}/jmeter/VERSION (70 MB); prints that folder. Fetched once.
# Exit code 3 where Maven, Java or Maven Central cannot be had: nothing is left behind then.
set -euo pipefail
cd "$(dirname "$0")"
version=$(sed -n 's:.*<jmeter>\(.*\)</jmeter>.*:\1:p' pom.xml)
home=${BALLAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ballast}/jmeter/$version
missing=()
command -v java >/dev/null || missing+=("java (Debian: default-jre-headless)")
[ -x "$home/bin/ApacheJMeter.jar" ] || command -v mvn >/dev/null || missing+=("mvn (Debian: maven)")
if [ "${#missing[@]}" -gt 0 ]; then
  echo "jmeter: missing: ${missing[*]}" >&2
  exit 3
fi
if [ ! -x "$home/bin/ApacheJMeter.jar" ]; then
  mkdir -p "${home%/*}"
  exec 9>"$home.lock"
  flock 9
  [ ! -x "$home/bin/ApacheJMeter.jar" ] || { echo "$home"; exit 0; }
  new=$(mktemp -d "$home.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  if ! mvn --batch-mode --quiet --strict-checksums --file pom.xml dependency:copy-dependencies \
    "-DoutputDirectory=$new/lib" >&2; then
    echo "jmeter: Maven Central does not give Apache JMeter $version here" >&2
    exit 3
  fi
  mkdir "$new/lib/ext" "$new/lib/junit"
  mv "$new"/lib/ApacheJMeter_{components,core,functions,http}-"$version".jar "$new/lib/ext"
  python3 - "$new" "$version" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(f"{sys.argv[1]}/lib/ApacheJMeter_config-{sys.argv[2]}.jar") as jar:
    jar.extractall(sys.argv[1], [name for name in jar.namelist() if name.startswith("bin/")])
PYTHON
  mv "$new/lib/ApacheJMeter-$version.jar" "$new/bin/ApacheJMeter.jar"
  chmod +x "$new/bin/ApacheJMeter.jar"
  rm -rf "$home"
  mv "$new" "$home"
fi
echo "$home"
