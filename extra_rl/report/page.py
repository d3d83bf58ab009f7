"""The page: one HTML file with its data, style and plotting library, which loads nothing.

The same results give the same bytes: no clock is read, and dates come from the run records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.report.text import figure, interval, signed
from extra_rl.tables.files import write_whole

if TYPE_CHECKING:
    import polars as pl

    from extra_rl.report.figure import Figure
    from extra_rl.report.sources import Sources

HERE = Path(__file__).parent
EXPLORER_LIMIT = 1500
"""Rollouts in the explorer, about 2 MB of a page."""


def build(results: Path, out: Path, explorer_limit: int = EXPLORER_LIMIT, compared: bool = False) -> int:
    """Write the report of a results folder and return its size in bytes.

    compared: only of the arms and seeds of its comparison. Raises InputError where no iteration is finished.
    """
    html = render(context(results, explorer_limit, compared)).encode()
    write_whole(out, lambda tmp: tmp.write_bytes(html))
    return len(html)


def context(results: Path, explorer_limit: int = EXPLORER_LIMIT, compared: bool = False) -> dict[str, Any]:
    """Return the values of the template."""
    from extra_rl.report import answer, collect, provenance, sources, tables

    found = sources.find(results, compared)
    places = {f"{folder}/s{seed}" for folder, seed in found.iterations} if compared else None
    iterations = collect.iterations(found)
    evaluations = collect.evaluations(found)
    footers = provenance.footers(found)
    sections = provenance.sections(footers)
    ks = answer.ks_of(found, evaluations)
    table = answer.rows(found, ks, answer.scores(evaluations, ks))
    differences = answer.differences(found)
    return {
        "sources": found,
        "name": found.results.resolve().name,
        "missing": found.missing(),
        "sentence": answer.sentence(found, table),
        "ks": ks,
        "table": table,
        "base": found.arms[0],
        "differences": differences,
        "by_regime": answer.by_regime(differences, found.regimes),
        "figures": figures(found, iterations, evaluations, ks),
        "solutions": tables.solutions(found),
        "budget": tables.spending(found, iterations, sections),
        "config_diff": provenance.differing(sections),
        "facts": provenance.facts(found, footers),
        "explorer_data": _explorer(results, explorer_limit, places),
    }


def figures(sources: Sources, iterations: pl.DataFrame, evaluations: pl.DataFrame, ks: list[int]) -> list[Figure]:
    """Return the figures of the page in order, without those that these results have no data for."""
    from extra_rl.report import held_out_figures, regime_figures, training_figures
    from extra_rl.report.figure import looks

    arms = looks(sources.arms)
    made = [
        *regime_figures.figures(sources, iterations, ks, arms),
        *training_figures.learning(sources, iterations, arms),
        *held_out_figures.over_training(sources, evaluations, ks, arms),
        *held_out_figures.pass_at_k(sources, evaluations, arms),
        *held_out_figures.benchmarks(sources, evaluations, ks, arms),
        *training_figures.composition(sources, iterations),
        *training_figures.regeneration(sources, iterations, arms),
        *training_figures.entropy_and_length(sources, iterations, arms),
        *training_figures.bonus(sources, iterations, arms),
    ]
    return [figure for figure in made if figure.panels]


def render(values: dict[str, Any]) -> str:
    """Return the filled template. Model output and names are escaped; only our own scripts and styles are not."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "embedded": embedded,
        "signed": signed,
        "figure": figure,
        "interval": interval,
    }
    environment.filters.update(filters)
    with_explorer = values["explorer_data"] is not None
    return environment.get_template("page.html").render(
        **values,
        style=Markup(_inline("page.css") + (_inline("explorer.css") if with_explorer else "")),
        library=Markup(_library()),
        script=Markup(_inline("page.js")),
        explorer_script=Markup(_inline("explorer.js") if with_explorer else ""),
    )


def embedded(value: Any) -> Any:
    """Return JSON for a <script> element: nothing in it ends the element or starts a comment.

    `<`, `>`, `&`, U+2028 and U+2029 are written as \\uXXXX, which JSON reads as the same characters.
    """
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, in the version that Altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return _safe(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version), "the plotting library"
    )


def _inline(name: str) -> str:
    return _safe((HERE / name).read_text(), name)


def _safe(text: str, name: str) -> str:
    """Return a script or style after checking that it cannot end its element."""
    for ending in ("</script", "</style", "<!--"):
        assert ending not in text.lower(), f"{name} would end its element"
    return text


def _explorer(results: Path, limit: int, places: Container[str] | None) -> Any:
    if limit == 0:
        return None
    from extra_rl.report.explorer import collect

    return collect(results, limit, places)
