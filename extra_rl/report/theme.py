"""How arms look: a colour, a dash and a shape each, the same in every figure; colours follow the page's light or dark.

Colours are CSS variables (page.css), which the SVG that Vega draws resolves in the page. The palette is Okabe and
Ito's, adjusted in lightness for contrast of 3:1 on either background; dash and shape say the same without colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COLOURS = 8
DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 2), (9, 3, 2, 3), (12, 4))
SHAPES = {
    "circle": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
    "square": "M-3.5 -3.5H3.5V3.5H-3.5Z",
    "triangle-up": "M0 -4L4.2 3.5H-4.2Z",
    "diamond": "M0 -5L4 0L0 5L-4 0Z",
    "cross": "M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "triangle-down": "M0 4L4.2 -3.5H-4.2Z",
}
"""Name of a Vega symbol -> the same as an SVG path around the origin, for the legend."""


@dataclass(frozen=True)
class Look:
    """name: of the arm. dash: lengths of stroke and gap, () solid. path: its shape for the legend."""

    name: str
    colour: str
    dash: tuple[int, ...]
    shape: str
    path: str


def looks(arms: list[str]) -> list[Look]:
    """One for each arm; no two of the first 40 agree in colour and dash."""
    shapes = list(SHAPES)
    found = []
    for place, arm in enumerate(arms):
        shape = shapes[place % len(shapes)]
        dash = DASHES[(place + place // COLOURS) % len(DASHES)]
        found.append(Look(arm, f"var(--series-{place % COLOURS})", dash, shape, SHAPES[shape]))
    return found


def warm_start_look() -> Look:
    """Of the policy that all arms start from: grey, dotted."""
    return Look("warm start", "var(--muted)", (1, 3), "circle", SHAPES["circle"])


FONT = "system-ui, sans-serif"

CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titlePadding": 8,
    },
    "axisX": {"grid": False, "tickCount": 5, "labelFlush": True},
    "axisY": {"domain": False, "ticks": False, "tickCount": 5},
    "text": {"color": "var(--fg)", "font": FONT},
    "line": {"strokeWidth": 1.8},
    "rule": {"strokeWidth": 1.4},
}
"""Vega-Lite configuration of every chart."""
