"""A chart as SVG: lines over a logarithmic axis, legible on a light page and on a dark one."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 110, 46, 52
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Told apart by the colour-blind too (Okabe and Ito)."""
TICKS = 5


def line_chart(
    title: str, across: str, up: str, xs: Sequence[int], lines: Mapping[str, Sequence[float]]
) -> str:
    """A chart of lines, each with a value for every x; x on a logarithmic axis, y from 0."""
    top = _round_up(max(value for values in lines.values() for value in values))
    low, high = math.log10(min(xs)), math.log10(max(xs))
    span = high - low or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (math.log10(x) - low) / span * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(across)}</text>",
        f'<text x="16" y="{(TOP + HEIGHT - BOTTOM) / 2:g}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:g})">{escape(up)}</text>',
    ]
    for number in range(TICKS + 1):
        value = top * number / TICKS
        _, y = place(min(xs), value)
        parts.append(
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{value:.3g}</text>'
        )
    for x in xs:
        at, y = place(x, 0)
        parts.append(f'<text x="{at}" y="{y + 20:g}" text-anchor="middle">{x:,}</text>')
    ends = _apart({name: place(xs[-1], values[-1])[1] for name, values in lines.items()})
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        points = [place(x, value) for x, value in zip(xs, values, strict=True)]
        path = "L".join(f"{x} {y}" for x, y in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in points]
        parts.append(
            f'<text x="{points[-1][0] + 10:g}" y="{ends[name] + 4:g}" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The heights, moved so that names beside them do not cover each other."""
    moved: dict[str, float] = {}
    last = -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        last = moved[name] = max(height, last + 16)
    return moved
