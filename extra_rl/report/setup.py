"""What was run, for the head of the page: task, model and its size, arms, learning rate, group size, problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_rl.evaluation.figures import MEAN
from extra_rl.report.sources import Sources
from extra_rl.report.text import short_number

Sections = Mapping[str, Mapping[str, Any]]
"""Cell folder ("" for shared stages) -> stage -> its resolved section (`provenance.sections`)."""
COUNTED = ("sampled_tokens", "prefilled_tokens", "scored_tokens")
NAMES_SHOWN = 4


class Fact(NamedTuple):
    """A name, and a value that is the same for all arms, or says which arm has which."""

    name: str
    value: str


def what_was_run(sources: Sources, sections: Sections) -> list[Fact]:
    """Return the facts that a reader needs before any figure; those that the results do not hold are left out."""
    shared = sections.get("", {})
    found = [
        Fact("task", _task(shared, sections)),
        Fact("model", _model(shared, sources)),
        Fact("arms", _arms(sources)),
        Fact("reward", _grouped((cell, reward(stages.get("verify", {}))) for cell, stages in sections.items())),
        Fact("learning rate", _by_arm(sections, "update", "learning_rate", "{:g}")),
        Fact("group size G", _by_arm(sections, "generate", "group_size")),
        Fact("problems per iteration", _by_arm(sections, "select", "prompts")),
        Fact("temperature", _by_arm(sections, "generate", "sampling.temperature", "{:g}")),
        Fact("response limit", _by_arm(sections, "generate", "sampling.max_response_tokens", "{:,} tokens")),
        Fact("iterations", _iterations(sources)),
        Fact("token budget", _by_arm(sections, "select", "token_budget", "{:,} sampled tokens")),
        Fact("training problems", _rows(sources.results / "prepare" / "train.parquet")),
        Fact("held-out problems", _held_out(sources)),
    ]
    return [fact for fact in found if fact.value]


def parameters(sources: Sources) -> int | None:
    """Return the number of the model's weights, from the compute that `summarize` derived from it; None if unknown.

    Compute is 2N (sampled + prefilled + scored) + 6N trained (docs/method.md 4), so N follows from any iteration.
    """
    for folders in sources.iterations.values():
        for folder in folders:
            row = pl.read_parquet(folder / "summarize.parquet", glob=False).row(0, named=True)
            tokens = 2 * sum(row.get(name) or 0 for name in COUNTED) + 6 * (row.get("trained_tokens") or 0)
            if tokens and row.get("compute"):
                return round(float(row["compute"]) / float(tokens))
    return None


def _task(shared: Mapping[str, Any], sections: Sections) -> str:
    task = _first(shared, sections, "prepare", "task") or _first(shared, sections, "evaluate", "task")
    task = task or _first(shared, sections, "verify", "task") or {}  # an import has no other of its stages
    if not task:
        return ""
    name = str(task.get("name", ""))
    named = [*task.get("train", {}), *task.get("sets", {})]
    shown = ", ".join(map(str, named[:NAMES_SHOWN])) + (" ..." if len(named) > NAMES_SHOWN else "")
    return f"{name} ({shown})" if shown else name


def reward(section: Mapping[str, Any]) -> str:
    """Return judge and weights of a section `verify`, such as `mine:score, 1 correct - 0.01 length`.

    "" where the reward is that of the verdict by a judge of this project.
    """
    judge, weights = str(section.get("task", {}).get("judge", "")), section.get("weights", {})
    terms = "".join(f" {'-' if weight < 0 else '+'} {abs(weight):g} {name}" for name, weight in weights.items())
    users = judge if re.search(r"[\s:]", judge) else ""
    return ", ".join(part for part in (users, terms.removeprefix(" + ").strip()) if part)


def _model(shared: Mapping[str, Any], sources: Sources) -> str:
    section = shared.get("warm_start", {})
    model = section.get("model", {})
    source = model.get("source")
    if source:
        name = Path(str(source)).name if str(source).startswith(("/", ".")) else str(source)
    else:
        name = "new model" if model else ""
    count = parameters(sources)
    parts = [name, f"{short_number(count)} weights" if count else ""]
    if section:
        steps = section.get("steps", 0)
        parts.append(f"warm start of {steps:,} steps" if steps else "no warm start")
    return ", ".join(part for part in parts if part)


def _arms(sources: Sources) -> str:
    seeds = len(sources.seeds)
    text = f"{', '.join(sources.arms)}; {seeds} seed{'s' if seeds != 1 else ''} each"
    return text + (f"; regimes {', '.join(sources.regimes)}" if len(sources.regimes) > 1 else "")


def _iterations(sources: Sources) -> str:
    counts = sorted({len(folders) for folders in sources.iterations.values()})
    done = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    planned = max(sources.planned.values(), default=0)
    return f"{done} of {planned}" if planned > counts[0] else done


def _held_out(sources: Sources) -> str:
    """Return problems, benchmarks and samples of the last evaluation that is there."""
    folders = [folders[-1] for folders in sources.iterations.values()] + list(sources.warm_starts.values())
    file = next((f / "evaluate_figures.parquet" for f in folders if (f / "evaluate_figures.parquet").is_file()), None)
    if file is None:
        return ""
    rows = pl.read_parquet(file, glob=False).filter(pl.col("metric").cast(pl.String) == "pass_at_k", pl.col("k") == 1)
    total = rows.filter(pl.col("benchmark") == MEAN)
    if total.is_empty():
        return ""
    problems, samples = total["problems"][0], total["samples"][0]
    benchmarks = rows.filter(pl.col("benchmark") != MEAN)["benchmark"].to_list()
    shown = ", ".join(benchmarks[:6]) + (" ..." if len(benchmarks) > 6 else "")
    return f"{problems:,} ({shown}), {samples / problems:.3g} samples each"


def _rows(path: Path) -> str:
    if not path.is_file():
        return ""
    return f"{pl.scan_parquet(path, glob=False).select(pl.len()).collect().item():,}"


def _first(shared: Mapping[str, Any], sections: Sections, stage: str, key: str) -> Any:
    for stages in (shared, *sections.values()):
        if key in stages.get(stage, {}):
            return stages[stage][key]
    return None


def _by_arm(sections: Sections, stage: str, key: str, form: str = "{}") -> str:
    """Return a key's value, or `value (arm, arm); value (arm)` where arms differ, without null and absent values."""
    found = []
    for cell, stages in sections.items():
        value: Any = stages.get(stage, {})
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found.append((cell, "" if value is None else _formatted(value, form)))
    return _grouped(found)


def _grouped(found: Iterable[tuple[str, str]]) -> str:
    """Return a text that all cells share, or `text (arm, arm); text (arm)`; without empty ones and shared stages."""
    values: dict[str, list[str]] = {}
    for cell, text in found:
        if cell and text:
            values.setdefault(text, []).append(cell)
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(cells)})" for value, cells in values.items())


def _formatted(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
