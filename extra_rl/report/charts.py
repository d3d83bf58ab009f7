"""The charts as Vega-Lite specifications: one view each, as wide as its container.

Titles, legends and captions are HTML. Numbers are rounded to five digits, more than a chart can show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from extra_rl.report.figure import CONFIG, Look, Spec

HEIGHT, SMALL = 240, 150
WIDTH = 0.7
"""Share of the distance between two places over which the points of one place's arms are spread."""
SHARE = ".0%"
KINDS = ["all incorrect", "mixed", "all correct"]
"""Kinds of groups, from the bottom of the area chart to its top."""


def lines(
    curves: pl.DataFrame,
    x: tuple[str, str],
    y_title: str,
    looks: Sequence[Look],
    *,
    percent: bool = False,
    top: float | None = None,
    zero: bool = True,
) -> Spec:
    """Return a chart with one line per arm and its band over seeds.

    Args:
        curves: columns arm, mean, low, high, seeds and the x column.
        x: column and title of the x axis.
        y_title: title of the y axis.
        looks: of the arms.
        percent: y is a share.
        top: upper end of y, common to the panels of a figure.
        zero: y begins at zero; False for figures that may be negative.
    """
    axis = alt.Axis(format=SHARE if percent else "~g")
    least = alt.Scale(domainMin=0, nice=True) if zero else alt.Scale(zero=False, nice=True)
    if zero and not curves.select(pl.max_horizontal("mean", "high").max()).item():
        least = alt.Scale(domain=[0, 1])  # a line at zero belongs to the bottom
    scale = least if top is None else alt.Scale(domain=[0, top], nice=True)
    base = alt.Chart().encode(x=_x(*x), color=_colour(looks))
    opacity = 0.16 if len(looks) < 4 else 0.08  # many bands overlap
    band = (
        base.transform_filter("isValid(datum.low)").mark_area(opacity=opacity, clip=True).encode(y="low:Q", y2="high:Q")
    )
    line = base.mark_line(clip=True).encode(
        y=alt.Y("mean:Q", title=y_title, axis=axis, scale=scale), strokeDash=_dash(looks)
    )
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip(f"{x[0]}:Q", title=x[1], format=",.0f"),
        alt.Tooltip("mean:Q", title=y_title, format=".1%" if percent else ".4g"),
        alt.Tooltip("low:Q", title="mean - sd", format=".1%" if percent else ".4g"),
        alt.Tooltip("high:Q", title="mean + sd", format=".1%" if percent else ".4g"),
        alt.Tooltip("seeds:Q"),
    ]
    hover = base.mark_point(opacity=0, size=120, clip=True).encode(y="mean:Q", tooltip=tooltip)
    return _spec(alt.layer(*([band] if _has_bands(curves) else []), line, hover), curves, HEIGHT)


def points(curves: pl.DataFrame, x: tuple[str, str], y_title: str, looks: Sequence[Look], **scales: Any) -> Spec:
    """Return a chart of points with error bars and lines between them.

    Args:
        curves: columns arm, mean, low, high, seeds and the x column.
        x: column and title of the x axis.
        y_title: title of the y axis.
        looks: of the arms.
        scales: `log` for a logarithmic x (base 2) with ticks at `x_values`; `root` for a square-root x; `places` for
            evenly spaced labels at x = 0, 1, ...; `line` for a horizontal line at this value; `shown` for the columns
            (name and type) that a tooltip shows instead of x, with their titles.
    """
    band = _axis_of(scales)
    base = alt.Chart().encode(x=_x(*x, **band), color=_colour(looks))
    y = alt.Y("mean:Q", title=y_title, scale=alt.Scale(zero=False, padding=8))
    line = base.mark_line().encode(y=y, strokeDash=_dash(looks))
    bar = base.transform_filter("isValid(datum.low)").mark_rule().encode(y="low:Q", y2="high:Q")
    shown = scales.get("shown", {f"{x[0]}:Q": x[1]})
    tooltip = [
        alt.Tooltip("arm:N"),
        *(
            alt.Tooltip(column, title=title, format=",.4~g" if column.endswith(":Q") else alt.Undefined)
            for column, title in shown.items()
        ),
        alt.Tooltip("mean:Q", title=y_title, format=".4g"),
        alt.Tooltip("low:Q", format=".4g"),
        alt.Tooltip("high:Q", format=".4g"),
    ]
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(
        y="mean:Q", shape=_shape(looks), tooltip=[*tooltip, alt.Tooltip("seeds:Q")]
    )
    across = alt.Chart().mark_rule(color="var(--muted)", strokeDash=[2, 2]).encode(y=alt.datum(scales.get("line", 0)))
    return _spec(
        alt.layer(*([across] if "line" in scales else []), line, *([bar] if _has_bands(curves) else []), dots),
        curves,
        HEIGHT,
    )


def side_by_side(column: str, places: Sequence[str], looks: Sequence[Look]) -> pl.Expr:
    """Return x for `points`: 0, 1, 2, ... for the places in `column`, and the arms of a place next to each other."""
    shift = {look.name: (n - (len(looks) - 1) / 2) * WIDTH / len(looks) for n, look in enumerate(looks)}
    place = {name: float(n) for n, name in enumerate(places)}
    middle = pl.col(column).replace_strict(place, return_dtype=pl.Float64)
    return middle + pl.col("arm").replace_strict(shift, return_dtype=pl.Float64)


def bars(rows: pl.DataFrame, looks: Sequence[Look], ks: tuple[int, int]) -> Spec:
    """Return a chart with a bar per arm for pass@k of the first k and a tick for the second.

    rows: columns arm, k, mean, low, high, seeds.
    """
    small, large = ks
    order = [look.name for look in looks]
    base = alt.Chart().encode(
        y=alt.Y("arm:N", title=None, sort=order, axis=alt.Axis(labelColor="var(--fg)", labelLimit=140, labelPadding=6)),
        tooltip=[
            "arm:N",
            alt.Tooltip("k:Q"),
            alt.Tooltip("mean:Q", title="pass@k (%)", format=".1f"),
            alt.Tooltip("low:Q", title="mean - sd", format=".1f"),
            alt.Tooltip("high:Q", title="mean + sd", format=".1f"),
            "seeds:Q",
        ],
    )
    x = alt.X("mean:Q", title="percent", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(values=[0, 25, 50, 75, 100]))
    first = base.transform_filter(f"datum.k == {small}")
    bar = first.mark_bar(height={"band": 0.62}, opacity=0.85).encode(x=x, color=_colour(looks))
    spread = first.transform_filter("isValid(datum.low)").mark_rule(color="var(--fg)").encode(x="low:Q", x2="high:Q")
    tick = (
        base.transform_filter(f"datum.k == {large}")
        .mark_tick(thickness=3, height={"band": 0.8})
        .encode(x=x, color=_colour(looks))
    )
    height = 20 * rows["arm"].n_unique()
    return _spec(alt.layer(bar, *([spread] if _has_bands(rows.filter(k=small)) else []), tick), rows, height)


def stacked(rows: pl.DataFrame) -> Spec:
    """Return the shares of the kinds of groups over iterations, labelled inside the areas.

    rows: columns iteration, kind, share, groups.
    """
    colours = ["var(--wrong)", "var(--mixed)", "var(--right)"]
    base = alt.Chart().transform_calculate(order="datum.kind == 'all incorrect' ? 0 : datum.kind == 'mixed' ? 1 : 2")
    area = base.mark_area().encode(
        x=_x("iteration", "iteration"),
        y=alt.Y("share:Q", stack="normalize", title=None, axis=alt.Axis(format=SHARE)),
        color=alt.Color("kind:N", scale=alt.Scale(domain=KINDS, range=colours), legend=None),
        order=alt.Order("order:Q"),
        tooltip=["iteration:Q", "kind:N", alt.Tooltip("share:Q", format=SHARE), "groups:Q"],
    )
    labels = (
        alt.Chart(_data(_labels(rows)))
        .mark_text(baseline="middle", fontSize=11, color="var(--on-area)")
        .encode(x="iteration:Q", y="middle:Q", text="kind:N")
    )
    return _spec(alt.layer(area, labels), rows, SMALL)


def _labels(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the place of each kind's label: where it is widest over five iterations, none where it is too thin."""
    wide = rows.pivot("kind", index="iteration", values="share").sort("iteration")
    edge = max(1, len(wide) // 6)
    if len(wide) < 3:  # too few iterations to keep labels away from the edges
        wide, edge = wide.mean(), 0
    found = []
    for place, kind in enumerate(KINDS):
        kinds_below = KINDS[:place]
        below = pl.sum_horizontal(pl.lit(0.0), *kinds_below)
        lowest = (below + pl.col(kind)).rolling_min(5, min_samples=1, center=True)
        room = lowest - below.rolling_max(5, min_samples=1, center=True)
        inner = wide.with_columns(room=room, below=below).slice(edge, len(wide) - 2 * edge)
        best = inner.sort("room", descending=True, maintain_order=True).row(0, named=True)
        if best["room"] > 0.14:
            found.append({"kind": kind, "iteration": best["iteration"], "middle": best["below"] + best[kind] / 2})
    return found


def _x(column: str, title: str, **axis: Any) -> alt.X:
    scale = alt.Scale(**axis.pop("scale", {"nice": False, "zero": False}))
    return alt.X(f"{column}:Q", title=title, scale=scale, axis=alt.Axis(**{"format": "~s", "tickMinStep": 1, **axis}))


def _axis_of(scales: dict[str, Any]) -> dict[str, Any]:
    if scales.get("log"):
        return {
            "scale": {"type": "log", "base": 2, "nice": False, "padding": 8},
            "format": "d",
            "values": scales["x_values"],
        }
    if scales.get("root"):
        return {"scale": {"type": "sqrt", "nice": False, "padding": 14}, "format": "~g", "tickMinStep": 0.01}
    if "places" in scales:
        return {
            "scale": {"nice": False, "zero": False, "padding": 14},
            "labelExpr": f"{json.dumps(scales['places'])}[datum.value]",
            "values": list(range(len(scales["places"]))),
        }
    return {"scale": {"nice": False, "padding": 8}}


def _colour(looks: Sequence[Look]) -> alt.Color:
    scale = alt.Scale(domain=[look.name for look in looks], range=[look.colour for look in looks])
    return alt.Color("arm:N", scale=scale, legend=None)


def _dash(looks: Sequence[Look]) -> alt.StrokeDash:
    scale = alt.Scale(domain=[look.name for look in looks], range=[list(look.dash) or [1, 0] for look in looks])
    return alt.StrokeDash("arm:N", scale=scale, legend=None)


def _shape(looks: Sequence[Look]) -> alt.Shape:
    scale = alt.Scale(domain=[look.name for look in looks], range=[look.shape for look in looks])
    return alt.Shape("arm:N", scale=scale, legend=None)


def _has_bands(rows: pl.DataFrame) -> bool:
    return rows["low"].is_not_null().any()


def _spec(chart: alt.LayerChart | alt.FacetChart, rows: pl.DataFrame, height: int) -> Spec:
    chart = chart.properties(data=_data(_values(rows)), width="container", height=height)
    with alt.data_transformers.enable("default", consolidate_datasets=False):
        spec: Spec = chart.to_dict()
    spec["config"] = CONFIG
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _data(values: list[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _values(rows: pl.DataFrame) -> list[dict[str, Any]]:
    keep = rows.drop("folder", "regime", strict=False).with_columns(pl.col(pl.Float64).round_sig_figs(5))
    return [{key: value for key, value in row.items() if value is not None} for row in keep.to_dicts()]
