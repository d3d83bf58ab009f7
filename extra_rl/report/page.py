"""The page: one HTML file that holds its data, its style and the plotting library, and loads nothing.

The same results give the same bytes: no clock is read, dates come from the run records.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extra_rl.report.numbers import figure, interval, signed
from extra_rl.tables.files import write_whole

HERE = Path(__file__).parent
EXPLORER_LIMIT = 1500
"""Rollouts in the explorer: about 2 MB of a page."""


def build(results: Path, out: Path, explorer_limit: int = EXPLORER_LIMIT) -> int:
    """Writes the report of a results folder; its size in bytes. InputError where no iteration is finished."""
    html = render(context(results, explorer_limit)).encode()
    write_whole(out, lambda tmp: tmp.write_bytes(html))
    return len(html)


def context(results: Path, explorer_limit: int = EXPLORER_LIMIT) -> dict[str, Any]:
    """All that the template needs."""
    from extra_rl.report import answer, budget, collect, figures, provenance, solutions, sources, theme

    found = sources.find(results)
    iterations = collect.iterations(found)
    evaluations = collect.evaluations(found)
    footers = provenance.footers(found)
    sections = provenance.sections(footers)
    ks = answer.ks_of(found, evaluations)
    table = answer.rows(found, ks, answer.scores(evaluations, ks))
    return {
        "sources": found,
        "name": found.results.resolve().name,
        "missing": found.missing(),
        "sentence": answer.sentence(found, table),
        "ks": ks,
        "table": table,
        "base": found.arms[0],
        "differences": answer.differences(found),
        "by_regime": answer.by_regime(answer.differences(found), found.regimes),
        "figures": figures.figures(found, iterations, evaluations, ks),
        "solutions": solutions.table(found),
        "budget": budget.rows(found, iterations, sections),
        "config_diff": provenance.differing(sections),
        "facts": provenance.facts(found, footers),
        "looks": {look.name: look for look in theme.looks(found.arms)},
        "explorer_data": _explorer(results, explorer_limit),
    }


def render(values: dict[str, Any]) -> str:
    """The template filled in; model output and names are escaped, only our own scripts and styles are not."""
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
    """JSON that can stand in a <script> element: nothing in it ends the element or starts a comment.

    `<`, `>`, `&`, U+2028 and U+2029 are written as \\uXXXX, which JSON reads as the same characters.
    """
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that Altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return _safe(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version), "the plotting library"
    )


def _inline(name: str) -> str:
    path = HERE / name
    return _safe(path.read_text(), name) if path.is_file() else ""


def _safe(text: str, name: str) -> str:
    """A script or style as it may stand in its element."""
    for ending in ("</script", "</style", "<!--"):
        assert ending not in text.lower(), f"{name} would end its element"
    return text


def _explorer(results: Path, limit: int) -> Any:
    if limit == 0 or importlib.util.find_spec("extra_rl.report.explorer") is None:
        return None
    from extra_rl.report.explorer import collect

    return collect(results, limit)
