#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/pictures/screens.sh [PAGE...]
# Renders pages (default: README.md and docs/) as a browser shows them, 1100 and 390 px wide, to build/screens/*.png:
# for eyes. Installs Chromium and python3-markdown where they are missing.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '4,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/../.."
if ! command -v chromium >/dev/null || ! /usr/bin/python3 -c 'import markdown' 2>/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium python3-markdown fonts-dejavu-core >/dev/null
fi
[ $# -gt 0 ] || set -- README.md CONTRIBUTING.md SECURITY.md docs/*.md
out=build/screens
mkdir -p "$out"
for page in "$@"; do
  name=$(tr / - <<<"${page%.md}")
  # Beside the page itself, so that its pictures are found; removed again.
  html=$(dirname "$page")/.screen-$name.html
  trap 'rm -f "$html"' EXIT
  /usr/bin/python3 - "$page" >"$html" <<'PYTHON'
import markdown, pathlib, re, sys
text = pathlib.Path(sys.argv[1]).read_text()
# GitHub takes a list or a table without a blank line before it; this renderer wants fences at the left edge.
text = re.sub(r"^( +)(```.*?^\1```)", lambda m: re.sub(rf"^{m[1]}", "", m[0], flags=re.M), text, flags=re.M | re.S)
body = markdown.markdown(text, extensions=["tables", "fenced_code", "toc", "sane_lists"])
print("""<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, 'DejaVu Sans', sans-serif; max-width: 980px; margin: 0 auto; padding: 16px; color: #1f2328 }
img { max-width: 100% } code { font: 85% monospace; background: #eff1f3; padding: .1em .3em; border-radius: 4px }
pre { background: #f6f8fa; padding: 12px; overflow: auto; line-height: 1.35 } pre code { background: none; padding: 0 }
table { border-collapse: collapse; display: block; overflow: auto; max-width: 100% }
td, th { border: 1px solid #d1d9e0; padding: 6px 10px; text-align: left; vertical-align: top }
h1, h2 { border-bottom: 1px solid #d1d9e0; padding-bottom: .3em } a { color: #0969da; text-decoration: none }
</style>""" + body)
PYTHON
  for width in 1100 390; do
    # A window below 500 px is not to be had; a frame of that width is.
    frame=$(dirname "$page")/.screen-$name-$width.html
    printf '<!doctype html><body style="margin:0"><iframe src="%s" style="border:0;width:%spx;height:%spx"></iframe>' \
      "$(basename "$html")" "$width" "${BALLAST_SCREEN_HEIGHT:-2400}" >"$frame"
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
      --window-size="$((width < 500 ? 500 : width)),${BALLAST_SCREEN_HEIGHT:-2400}" \
      --screenshot="$out/$name-$width.png" "file://$PWD/$frame" 2>/dev/null
    rm -f "$frame"
  done
  rm -f "$html"
  echo "$out/$name-1100.png $out/$name-390.png"
done
