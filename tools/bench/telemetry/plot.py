# SPDX-License-Identifier: Apache-2.0
"""The picture: counted % and the error of p50 and p99 against load, as SVG without a library."""
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 760, 540, 70, 20, 40, 60
PANEL = (HEIGHT - TOP - 2 * GAP) // 2


def panel(top, title, unit, low, high, marks, series, x_of):
    def y_of(value):
        return top + PANEL * (high - min(max(value, low), high)) / (high - low)

    parts = [f'<text x="{LEFT}" y="{top - 8}" class="t">{escape(title)}</text>',
             f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" class="f"/>']
    for mark in marks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(mark):.1f}" y2="{y_of(mark):.1f}" class="g"/>'
                     f'<text x="{LEFT - 6}" y="{y_of(mark) + 4:.1f}" class="a" text-anchor="end">{mark:g}{unit}</text>')
    for colour, name, points in series:
        where = [(x_of(x), y_of(y)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in where]
    for i, (colour, name, _) in enumerate(series):
        x = WIDTH - RIGHT - 90 * (len(series) - i)
        parts.append(f'<circle cx="{x}" cy="{top - 12}" r="4" fill="{colour}"/>'
                     f'<text x="{x + 8}" y="{top - 8}" class="a">{escape(name)}</text>')
    return parts


def svg(rows, preliminary):
    """`rows` as timed.run() gives them."""
    highest = max(row["rate"] for row in rows) or 1

    def x_of(rate):
        return LEFT + (WIDTH - LEFT - RIGHT) * rate / (1.05 * highest)

    counted = [(r["rate"], 100 * r["counted"]) for r in rows if r["counted"] is not None]
    errors = {q: [(r["rate"], 100 * r[f"error_{q}"]) for r in rows if r[f"error_{q}"] is not None]
              for q in ("p50", "p99")}
    low = min([99.8] + [y for _, y in counted])
    worst = max([8.0] + [abs(y) for points in errors.values() for _, y in points])
    top2 = TOP + PANEL + GAP
    parts = panel(TOP, "Requests counted by the kernel, % of the client's own count", "%", low - 0.02, 100.1,
                  sorted({round(low, 2), 99.9, 100.0}), [("#1b6ca8", "counted", counted)], x_of)
    parts += panel(top2, "First-byte latency against a packet capture: error", "%", -1.1 * worst, 1.1 * worst,
                   [-5, 0, 5], [("#1b6ca8", "p50", errors["p50"]), ("#c0392b", "p99", errors["p99"])], x_of)
    bottom = top2 + PANEL
    for row in rows:
        parts.append(f'<text x="{x_of(row["rate"]):.1f}" y="{bottom + 16}" class="a" text-anchor="middle">'
                     f'{row["load"]:.0%}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{bottom + 36}" class="a" text-anchor="middle">load, of the most '
                 f'that nginx answered under the capture; right edge {1.05 * highest:,.0f} requests/s</text>')
    if preliminary:
        parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{bottom + 54}" class="a" text-anchor="middle">preliminary: '
                     'the machine had other work or other programs</text>')
    return page(parts)


def page(parts):
    style = ("text{font-family:sans-serif;fill:#222}.t{font-size:14px}.a{font-size:12px}"
             ".f{fill:none;stroke:#888}.g{stroke:#ccc;stroke-dasharray:4 3}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}"><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
            + "".join(parts) + "</svg>\n")


def soak(rows):
    """Memory and the maps' fill over time; `rows` as soak.churn() gives them."""
    last = rows[-1]["seconds"] or 1

    def x_of(seconds):
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / last

    def line(key):
        return [(row["seconds"], row[key]) for row in rows if key in row]

    most = max(row["rss_mb"] + row["kernel_maps_mb"] for row in rows)
    parts = panel(TOP, "Memory, MB", "", 0, 1.2 * most, [0, round(most)],
                  [("#1b6ca8", "ballastd", line("rss_mb")), ("#c0392b", "maps", line("kernel_maps_mb"))], x_of)
    fullest = max([1] + [row.get(name, 0) for row in rows for name in ("requests", "connections")])
    parts += panel(TOP + PANEL + GAP, "Entries of the maps", "", 0, 1.2 * fullest, [0, fullest],
                   [("#1b6ca8", "requests", line("requests")), ("#c0392b", "cgroups", line("connections"))], x_of)
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{TOP + 2 * PANEL + GAP + 36}" class="a" text-anchor="middle">'
                 f'{last / 60:.0f} minutes; {rows[-1]["born"]:,} cgroups born and gone</text>')
    return page(parts)
