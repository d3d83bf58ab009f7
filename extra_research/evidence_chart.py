"""The gain over the base arm by regime as an SVG: one panel per k, with the report's charts and colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from extra_research.evidence_comparison import Compared
from extra_rl.comparison.evaluated import MEAN
from extra_rl.config.mistakes import nearest
from extra_rl.errors import InputError
from extra_rl.report import charts
from extra_rl.report.figure import CONFIG, Spec, looks
from extra_rl.tables.files import write_whole

PANEL = 420
"""Width of a panel in pixels."""
VARIABLE = re.compile(r"var\((--[\w-]+)\)")


def write_gain(found: Compared, path: Path, arms: Sequence[str] = ()) -> None:
    """Draw the gain over the base arm into an SVG file.

    x: regimes, by their value. y: percentage points of pass@k, mean over benchmarks and seeds, with t intervals blocked
    by warm start. The points of a regime are drawn side by side.

    Args:
        found: the comparison.
        path: of the file.
        arms: that are drawn; all that have a gain if empty.
    Raises InputError where an arm has no gain, or no arm has one.
    """
    import vl_convert

    gains = gains_of(found, arms)
    svg = vl_convert.vegalite_to_svg(spec_of(found, gains))
    write_whole(path, lambda tmp: tmp.write_text(svg))


def gains_of(found: Compared, arms: Sequence[str] = ()) -> pl.DataFrame:
    """Return the gains over the base arm: arm, regime, k, mean, low, high, seeds. Raises as `write_gain`."""
    base = found.plan.arms[0]
    rows = [
        (row["arm"], row["regime"], row["k"], row["difference"], row["t_low"], row["t_high"], row["seeds"])
        for row in found.differences
        if row["base"] == base and row["benchmark"] == MEAN
    ]
    known = list(dict.fromkeys(row[0] for row in rows))
    if not rows:
        raise InputError(f"no arm has a seed in common with {base}, so there is no gain to draw.")
    for arm in arms:
        if arm not in known:
            raise InputError(f"--figure-arms: {arm!r} has no gain over {base}{nearest(arm, known)}.")
    floats = dict.fromkeys(("mean", "low", "high"), pl.Float64)
    schema = {"arm": pl.String, "regime": pl.String, "k": pl.Int64, **floats, "seeds": pl.Int64}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.filter(pl.col("arm").is_in(list(arms) or known))


def spec_of(found: Compared, gains: pl.DataFrame) -> Spec:
    """Return the figure as a Vega-Lite specification that needs no page. gains: `gains_of`."""
    plan = found.plan
    shown = set(gains["arm"])
    drawn = [look for look in looks([arm for arm in plan.arms if arm != plan.arms[0]]) if look.name in shown]
    with_gain = set(gains["regime"])
    order = [name for name in sorted(plan.regimes, key=lambda name: plan.regimes[name]) or [""] if name in with_gain]
    labels = [f"{name} ({plan.regimes[name]:g})" if name in plan.regimes else plan.name for name in order]
    panels = []
    for place, k in enumerate(plan.ks):
        rows = gains.filter(k=k).drop("k").with_columns(x=charts.side_by_side("regime", order, drawn))
        y_title = f"pass@{k}: percentage points over {plan.arms[0]}"
        panel = charts.points(rows, ("x", "regime"), y_title, drawn, places=labels, line=0)
        for key in ("config", "autosize", "$schema"):
            panel.pop(key, None)
        panels.append({**panel, "width": PANEL, "name": f"panel_{place}"})
    scales = dict.fromkeys(("color", "shape", "strokeDash"), "shared")
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "hconcat": panels,
        "resolve": {"scale": scales},
        "config": {**CONFIG, "background": "white"},
    }
    resolved: Spec = _with_legend(_coloured(whole, light_colours()))
    return resolved


def light_colours() -> dict[str, str]:
    """Return the variables of the report's page for light backgrounds: `--fg` -> `#1b1d21`."""
    text = files("extra_rl.report").joinpath("page.css").read_text()
    first = text[: text.index("@media")]
    return dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", first))


def _coloured(value: Any, colours: dict[str, str]) -> Any:
    """Return the specification with colours instead of the page's variables."""
    if isinstance(value, dict):
        return {key: _coloured(inner, colours) for key, inner in value.items()}
    if isinstance(value, list):
        return [_coloured(inner, colours) for inner in value]
    return VARIABLE.sub(lambda found: colours[found[1]], value) if isinstance(value, str) else value


def _with_legend(value: Any) -> Any:
    """Return the specification with one legend: the page has its own, so the charts have none."""
    if isinstance(value, dict):
        return {
            key: {"title": None, "symbolSize": 70} if key == "legend" and inner is None else _with_legend(inner)
            for key, inner in value.items()
        }
    return [_with_legend(inner) for inner in value] if isinstance(value, list) else value
