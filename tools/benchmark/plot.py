"""The results as a picture (SVG): ratios to the other targets with their goals, and percentiles of latency."""

import math
from xml.sax.saxutils import escape

from benchmark.goals import GOALS, ratios

COLOURS = {"local": "#7f7f7f", "voldfs": "#d62728", "voldfs-tcp": "#ff9896", "glusterfs": "#1f77b4", "glusterfs-cache": "#aec7e8", "moosefs": "#9467bd",
           "floor": "#2ca02c", "floor-passthrough": "#98df8a", "floor-uring": "#bcbd22"}
LABELS, WIDTH, LINE, GAP, TOP = 300, 620, 12, 8, 60  # pixels


class Axis:
    """Logarithmic, with whole powers of ten at its ends."""

    def __init__(self, values, left):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.left = left

    def x(self, value):
        return self.left + WIDTH * (math.log10(value) - self.low) / (self.high - self.low)

    def grid(self, bottom):
        for power in range(self.low, self.high + 1):
            x = self.x(10.0**power)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>'
            yield f'<text x="{x:.1f}" y="{TOP - 6}" text-anchor="middle">{10.0**power:g}</text>'


def colour(name):
    return COLOURS.get(name, "#17becf")


def group(rows, draw_line):
    """Elements of rows of several lines each, and the bottom: [(label, [line])]."""
    elements, y = [], TOP
    for label, row_lines in rows:
        middle = y + LINE * len(row_lines) / 2 + 4
        elements.append(f'<text x="{LABELS - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>')
        for line in row_lines:
            elements += draw_line(line, y)
            y += LINE
        y += GAP
    return elements, y


def legend(names, left):
    for number, name in enumerate(names):
        x = left + number * 120
        yield f'<rect x="{x}" y="22" width="10" height="10" fill="{colour(name)}"/><text x="{x + 14}" y="31">{escape(name)}</text>'


def ratio_panel(results):
    rows = [(row, found) for row in GOALS if (found := ratios(results, row))]
    if not rows:
        return [], 0
    values = [value for _, found in rows for ratio in found for value in (ratio.have, ratio.wanted) if value]
    axis = Axis([*values, 1], LABELS)
    one = axis.x(1)

    def draw(ratio, y):
        x = axis.x(ratio.have)
        yield f'<rect x="{min(x, one):.1f}" y="{y + 1}" width="{abs(x - one):.1f}" height="{LINE - 2}" fill="{colour(ratio.other)}"/>'
        if ratio.wanted:
            goal = axis.x(ratio.wanted)
            yield f'<line x1="{goal:.1f}" y1="{y}" x2="{goal:.1f}" y2="{y + LINE}" stroke="black" stroke-width="3"/>'

    elements, bottom = group(rows, draw)
    names = list(dict.fromkeys(ratio.other for _, found in rows for ratio in found))
    title = f'<text x="{LABELS}" y="14" font-weight="bold">voldfs, times the rate of ...; black: the goal</text>'
    return [title, *legend(names, LABELS), *axis.grid(bottom), *elements], bottom


def latency_panel(results, left):
    rows = []
    for row in GOALS:
        found = [(name, percentiles) for name in results.targets() if (percentiles := results.percentiles(row, name))]
        if found and not row.startswith("ls"):
            rows.append((row, found))
    if not rows:
        return [], 0
    axis = Axis([percentiles[p] for _, found in rows for _, percentiles in found for p in ("p50", "p99.9")], LABELS)

    def draw(line, y):
        name, percentiles = line
        middle = y + LINE / 2
        yield (f'<line x1="{axis.x(percentiles["p50"]):.1f}" y1="{middle}" x2="{axis.x(percentiles["p99.9"]):.1f}" y2="{middle}" '
               f'stroke="{colour(name)}" stroke-width="2"/>')
        for percentile, radius in (("p50", 4), ("p90", 3), ("p99", 3), ("p99.9", 2)):
            yield f'<circle cx="{axis.x(percentiles[percentile]):.1f}" cy="{middle}" r="{radius}" fill="{colour(name)}"/>'

    elements, bottom = group(rows, draw)
    title = f'<text x="{LABELS}" y="14" font-weight="bold">latency, one thread, us: p50, p90, p99, p99.9</text>'
    return [f'<g transform="translate({left},0)">', title, *legend(results.targets(), LABELS), *axis.grid(bottom), *elements, "</g>"], bottom


def write(results, path):
    first, first_bottom = ratio_panel(results)
    panel = LABELS + WIDTH + 40
    second, second_bottom = latency_panel(results, panel if first else 0)
    width = panel * (bool(first) + bool(second)) + 500 or panel
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{max(first_bottom, second_bottom) + 20}" '
                   'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join([*first, *second]) + "\n</svg>\n")
