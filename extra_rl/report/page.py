"""The page: one HTML file with its data, style and plotting library, which loads nothing.

The same results give the same bytes: no clock is read, and dates come from the run records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import InputError
from extra_rl.report.glossary import explained
from extra_rl.report.text import amount, figure, interval, signed, span
from extra_rl.results import run_name
from extra_rl.tables.files import write_whole

if TYPE_CHECKING:
    import jinja2
    import polars as pl

    from extra_rl.report.figure import Figure
    from extra_rl.report.sources import Sources
    from extra_rl.report.spent import Spent

HERE = Path(__file__).parent
EXPLORER_LIMIT = 1500
"""Rollouts in the explorer, about 2 MB of a page."""


def build(results: Path, out: Path, explorer_limit: int = EXPLORER_LIMIT, compared: bool = False) -> int:
    """Write the report of a results folder and return its size in bytes.

    Args:
        results: `results/<name>`.
        out: the page.
        explorer_limit: most rollouts in the explorer; 0: no explorer.
        compared: only the arms and seeds of the comparison.
    Raises InputError where no iteration is finished, and for a file that cannot be read.
    """
    with readable(results):
        html = render(context(results, explorer_limit, compared)).encode()
    write_whole(out, lambda tmp: tmp.write_bytes(html))
    return len(html)


@contextmanager
def readable(results: Path) -> Iterator[None]:
    """Raise InputError, which names the file, where a table of the results cannot be read, or vanishes meanwhile."""
    import polars as pl
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or error}: it vanished while the report was made. Try again.") from error
    except (pl.exceptions.PolarsError, pa.ArrowException) as error:
        path = first_unreadable(results)
        what = f"{path}: not a readable Parquet file" if path else f"{results}: a table there cannot be read"
        raise InputError(f"{what} ({error}). `extra check {results}` prints how to make it again.") from error


def first_unreadable(results: Path) -> Path | None:
    """Return the first table below a folder whose footer cannot be read; None where all can."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted(results.rglob("*.parquet")):
        try:
            pq.read_metadata(path)
        except (OSError, pa.ArrowException):
            return path
    return None


def context(results: Path, explorer_limit: int = EXPLORER_LIMIT, compared: bool = False) -> dict[str, Any]:
    """Return the values of the template."""
    from extra_rl.report import answer, collect, problems, provenance, setup, sources, spent, tables

    found = sources.find(results, compared)
    places = {run_name(folder, seed) for folder, seed in found.iterations} if compared else None
    iterations = collect.iterations(found)
    evaluations = collect.evaluations(found)
    footers = provenance.footers(found)
    sections = provenance.sections(footers)
    spending = spent.by_seed(found, iterations)
    ks = answer.ks_of(found, evaluations)
    table = answer.rows(found, ks, answer.scores(evaluations, ks), problems.difference_intervals(found, ks))
    differences = answer.differences(found)
    return {
        "sources": found,
        "name": found.results.resolve().name,
        "unfinished": found.unfinished(),
        "missing": found.missing(),
        "setup": setup.what_was_run(found, sections),
        "sentence": answer.sentence(found),
        "sentences": answer.sentences(found, table),
        "ks": ks,
        "table": table,
        "base": found.arms[0],
        "differences": differences,
        "by_regime": answer.by_regime(differences, found.regimes),
        "figures": [
            *figures_by_regime(found, spending, sections, ks),
            *figures(found, iterations, collect.updates(found), evaluations, ks),
        ],
        "solutions": tables.solutions(found),
        "budget": tables.spending(found, spending, sections),
        "spending": spending,
        "config_diff": provenance.differing(sections),
        "facts": provenance.facts(found, footers),
        "explorer_data": _explorer(results, explorer_limit, places),
    }


def figures_by_regime(
    sources: Sources, spending: Spent, sections: dict[str, dict[str, Any]], ks: list[int]
) -> list[Figure]:
    """Return the first figures of a run with regimes; [] for other runs."""
    from extra_rl.report import regime_figures
    from extra_rl.report.figure import looks

    made = regime_figures.figures(sources, spending, sections, ks, looks(sources.arms))
    return [figure for figure in made if figure.panels]


def figures(
    sources: Sources, iterations: pl.DataFrame, updates: pl.DataFrame, evaluations: pl.DataFrame, ks: list[int]
) -> list[Figure]:
    """Return the further figures of the page in order, without those that these results have no data for."""
    from extra_rl.report import held_out_figures, training_figures
    from extra_rl.report.figure import looks

    arms = looks(sources.arms)
    made = [
        *training_figures.learning(sources, iterations, arms),
        *held_out_figures.over_training(sources, evaluations, ks, arms),
        *held_out_figures.pass_at_k(sources, evaluations, arms),
        *held_out_figures.benchmarks(sources, evaluations, ks, arms),
        *training_figures.rewards(sources, iterations, arms),
        *training_figures.composition(sources, iterations),
        *training_figures.regeneration(sources, iterations, arms),
        *training_figures.entropy_and_length(sources, iterations, arms),
        *training_figures.update(sources, iterations, updates, arms),
        *training_figures.bonus(sources, iterations, arms),
    ]
    return [figure for figure in made if figure.panels]


def render(values: dict[str, Any]) -> str:
    """Return the filled template of the report."""
    from markupsafe import Markup

    explorer = values["explorer_data"] is not None
    return template("page.html", styles=("page.css", "explorer.css") if explorer else ("page.css",)).render(
        **values,
        library=Markup(_library()),
        script=Markup(_inline("page.js")),
        explorer_script=Markup(_inline("rollout.js") + _inline("explorer.js") if explorer else ""),
    )


def template(name: str, styles: Sequence[str]) -> jinja2.Template:
    """Return a template with our filters, and with `style` and `words` (the script of explained words) filled.

    Model output and names are escaped; only our own scripts and styles are not.
    """
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
        "span": span,
        "amount": amount,
        "explained": explained,
    }
    environment.filters.update(filters)
    fixed = {"style": Markup("".join(map(_inline, styles))), "words": Markup(_inline("words.js"))}
    return environment.get_template(name, globals=fixed)


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
