"""The tables of the studies as lines for a terminal."""

from __future__ import annotations

import polars as pl

from extra_research.prefixes import Choices, rescue_by_place

SHOWN = 40
"""Rows of a table that are printed; the files contain all."""


def counterfactual_lines(variants: pl.DataFrame, choices: Choices) -> list[str]:
    """Return both summaries, and how often prefixes were rescued by their place in the run's choice."""
    lines = ["advantages", *table(variants, ADVANTAGE_COLUMNS), ""]
    if choices.rules["candidates"].sum():
        lines += ["prefixes of hard groups", *table(choices.rules, RULE_COLUMNS), ""]
    else:
        lines += ["prefixes: no hard group has a candidate", ""]
    places = rescue_by_place(choices.long)
    if len(places):
        lines += ["continued prefixes by their place in the run's choice", *table(places, PLACE_COLUMNS), ""]
    return lines


ADVANTAGE_COLUMNS = {
    "variant": "",
    "with_signal": "rows",
    "bonus_share": "bonus %",
    "rank_correlation": "rank corr.",
    "sign_changed": "sign %",
    "groups_gained": "gain",
    "groups_lost": "lose",
}
RULE_COLUMNS = {
    "rule": "",
    "candidates": "candidates",
    "chosen": "taken",
    "share_in_run": "in run %",
    "jaccard": "Jaccard %",
    "mean_score": "score",
    "mean_length_share": "length %",
    "continued": "continued",
    "rescued": "rescued",
}
PLACE_COLUMNS = {
    "place": "place",
    "prefixes": "prefixes",
    "rescued": "rescued",
    "continuations": "continuations",
    "right": "correct",
}


def table(rows: pl.DataFrame, columns: dict[str, str]) -> list[str]:
    """Return rows under the headings; a heading that ends in % shows a share as a percentage. Null is `-`."""
    cells = [list(columns.values())]
    shown = rows.head(SHOWN).select(columns.keys())
    cells += [[cell(value, heading) for value, heading in zip(row, cells[0], strict=True)] for row in shown.rows()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    return [*lines, f"  ... {len(rows) - SHOWN} more"] if len(rows) > SHOWN else lines


def cell(value: str | float | None, heading: str) -> str:
    """Return a value as text; a share as a percentage where the heading ends in %."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{100 * value:.1f}" if heading.endswith("%") else f"{value:.3g}"
    return str(value)


def signal_lines(rows: pl.DataFrame) -> list[str]:
    """Return the AUC of each score of a prefix, under a heading that explains it."""
    return [
        "probability that a good prefix scores lower than one that is not (0.5: the score predicts nothing)",
        *table(rows, SIGNAL_COLUMNS),
    ]


SIGNAL_COLUMNS = {
    "witness": "good if",
    "steps": "steps",
    "prefixes": "prefixes",
    "good": "good",
    "mean_entropy": "mean entropy",
    "peak_entropy": "peak",
    "mean_surprisal": "mean surprisal",
    "peak_surprisal": "peak",
    "mean_excess": "surprisal - entropy",
}


def noise_lines(rows: pl.DataFrame) -> list[str]:
    """Return the table of the gradient's noise, and what a missing ratio means."""
    lines = table(rows, NOISE_COLUMNS)
    if rows["noise_ratio"].null_count():
        lines.append("  no ratio: the squared mean is not above 0, so the gradient cannot be told from 0")
    return lines


NOISE_COLUMNS = {
    "variant": "",
    "groups": "groups",
    "signal_groups": "signal",
    "gradient_norm": "|gradient|",
    "trace": "trace",
    "squared_mean": "squared mean",
    "noise_ratio": "ratio",
    "low": "low",
    "high": "high",
    "relative": "relative",
    "relative_low": "low",
    "relative_high": "high",
}
