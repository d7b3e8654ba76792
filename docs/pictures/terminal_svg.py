#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""terminal_svg.py [--columns NAME,NAME...] [--mark TEXT] <SCREEN >PICTURE.svg

A terminal's text as an SVG that is read like text: no script, no font of its own. --columns keeps of a table those
columns alone and wraps what is around it (for a narrow picture); --mark sets off the lines that have TEXT.
"""
import argparse
import html
import re
import sys

SIZE, WIDTH, LINE, EDGE = 14, 8.43, 20, 14  # px: font, advance of a monospace glyph, line, margin


def keep_columns(lines, wanted):
    """Cuts the first table whose header has the wanted names down to these; other lines are wrapped to its width."""
    header = next((i for i, line in enumerate(lines) if all(name in line for name in wanted)), None)
    if header is None:
        sys.exit(f"terminal_svg: no line has all of {wanted}")
    # A column ends where two blanks or the line end; names and cells of numbers are flush right, words left.
    spans = [(m.start(), m.end()) for m in re.finditer(r"\S+(?: \S+)*", lines[header])]
    rows = [header]
    while rows[-1] + 1 < len(lines) and "  " in lines[rows[-1] + 1].strip():
        rows.append(rows[-1] + 1)
    cells = {i: [(m.start(), m.end(), m[0]) for m in re.finditer(r"\S+(?: \S+)*", lines[i])] for i in rows}
    out = []
    kept = [(a, b) for a, b in spans if lines[header][a:b] in wanted]
    texts = {}
    for i in rows:
        texts[i] = [next((t for a, b, t in cells[i] if a < right and b > left), "") for left, right in kept]
    widths = [max(len(texts[i][k]) for i in rows) for k in range(len(kept))]
    left_flush = [lines[rows[-1]][a:a + 1].strip() != "" and not lines[rows[-1]][a].isdigit() for a, b in kept]
    for i, line in enumerate(lines):
        if i in texts:
            out.append("  ".join(t.ljust(w) if l else t.rjust(w) for t, w, l in zip(texts[i], widths, left_flush)))
        elif i < header or i > rows[-1]:
            out += wrap(line, max(40, sum(widths) + 2 * len(widths) - 2))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", help="comma-separated")
    parser.add_argument("--mark", help="lines with this text are set off")
    options = parser.parse_args()
    lines = [line.rstrip() for line in sys.stdin.read().splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        sys.exit("terminal_svg: nothing to draw")
    if options.columns:
        lines = keep_columns(lines, options.columns.split(","))
    columns = max(len(line) for line in lines)
    width, height = columns * WIDTH + 2 * EDGE, len(lines) * LINE + 2 * EDGE
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
          f'height="{height}" role="img">')
    print(f'<rect width="100%" height="100%" rx="6" fill="#16181d"/><g font-family="ui-monospace,SFMono-Regular,Menlo,'
          f'Consolas,\'DejaVu Sans Mono\',monospace" font-size="{SIZE}" fill="#e6e8ec" xml:space="preserve">')
    for i, line in enumerate(lines):
        if not line:
            continue
        y = EDGE + i * LINE + SIZE
        marked = options.mark and options.mark in line
        style = ' font-weight="bold" fill="#8fe3a8"' if marked else ""
        print(f'<text x="{EDGE}" y="{y}" textLength="{len(line) * WIDTH:.1f}"{style}>'
              f'{html.escape(line).replace(" ", "&#160;")}</text>')
    print("</g></svg>")


def wrap(line, width):
    if len(line) <= width:
        return [line]
    out, current = [], ""
    for word in line.split():
        if current and len(current) + 1 + len(word) > width:
            out.append(current)
            current = word
        else:
            current = f"{current} {word}".strip()
    return out + [current]


if __name__ == "__main__":
    main()
