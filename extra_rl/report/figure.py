"""What a figure of the page is, and how arms look: colour, dash and shape are the same in every figure.

Colours are CSS variables (page.css), which the browser resolves for light or dark. The palette is Okabe and Ito's,
adjusted in lightness for a contrast of 3:1 on either background; dash and shape distinguish arms without colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from extra_rl.report.sources import Sources

Spec = dict[str, Any]
"""A Vega-Lite specification."""

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
"""Vega symbol -> the same shape as an SVG path around the origin, for the legend."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn. dash: lengths of stroke and gap, () for solid. path: `shape` as an SVG path."""

    name: str
    colour: str
    dash: tuple[int, ...]
    shape: str
    path: str


def looks(arms: list[str]) -> list[Look]:
    """Return one look per arm; the first 40 differ in colour or dash."""
    shapes = list(SHAPES)
    found = []
    for place, arm in enumerate(arms):
        shape = shapes[place % len(shapes)]
        dash = DASHES[(place + place // COLOURS) % len(DASHES)]
        found.append(Look(arm, f"var(--series-{place % COLOURS})", dash, shape, SHAPES[shape]))
    return found


def warm_start_look() -> Look:
    """Return the look of the initial policy: grey, dotted."""
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

BANDS = "Bands and bars: mean over seeds plus and minus one standard deviation; none with one seed."


@dataclass(frozen=True)
class Panel:
    """One chart. label: how it differs from its neighbours."""

    label: str
    spec: Spec


@dataclass(frozen=True)
class Figure:
    """Charts under one title.

    short: its name in the contents. legend: the arms in the charts. small: several charts per row.
    """

    id: str
    short: str
    title: str
    caption: str
    panels: list[Panel]
    legend: list[Look] = field(default_factory=list)
    small: bool = False


def by_regime(sources: Sources, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each regime with its rows, where there are any."""
    for regime in sources.regimes:
        part = rows.filter(regime=regime)
        if not part.is_empty():
            yield regime, part


def label(sources: Sources, regime: str, what: str = "") -> str:
    """Return a panel's label: the regime with its number, where there are regimes, and what else it shows."""
    where = f"{regime} ({sources.values[regime]:g})" if regime in sources.values else regime
    return ", ".join(part for part in (where, what) if part)


def top(rows: pl.DataFrame) -> float:
    """Return the upper end of y for all panels of a figure: the highest band, at most 1.3 times the highest mean."""
    mean = float(rows["mean"].max() or 1.0)  # type: ignore[arg-type]
    high = float(rows["high"].max() or mean)  # type: ignore[arg-type]
    return min(max(mean, high), 1.3 * mean) or 1.0
