"""What a figure of the page is, and how panels are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from extra_rl.report.charts import Spec
from extra_rl.report.sources import Sources
from extra_rl.report.theme import Look

BANDS = "Bands and bars: mean over seeds plus and minus one standard deviation; none with one seed."


@dataclass(frozen=True)
class Panel:
    """One chart. label: what distinguishes it from its neighbours."""

    label: str
    spec: Spec


@dataclass(frozen=True)
class Figure:
    """Charts under one title. short: its name in the contents. legend: arms that the charts tell apart by colour, dash
    and shape. small: many charts, several a row."""

    id: str
    short: str
    title: str
    caption: str
    panels: list[Panel]
    legend: list[Look] = field(default_factory=list)
    small: bool = False


def by_regime(sources: Sources, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for regime in sources.regimes:
        part = rows.filter(regime=regime)
        if not part.is_empty():
            yield regime, part


def label(sources: Sources, regime: str, what: str = "") -> str:
    """A panel's label: the regime with its number, where there are regimes, and what else it shows."""
    where = f"{regime} ({sources.values[regime]:g})" if regime in sources.values else regime
    return ", ".join(part for part in (where, what) if part)


def top(rows: pl.DataFrame) -> float:
    """Upper end of y for all panels of a figure: the highest mean and the highest band, as far as it is not above 1.3
    times the highest mean."""
    mean = float(rows["mean"].max() or 1.0)  # type: ignore[arg-type]
    high = float(rows["high"].max() or mean)  # type: ignore[arg-type]
    return min(max(mean, high), 1.3 * mean) or 1.0
