"""The model card of an export: data, training, evaluation and provenance, read from the run's files."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.errors import InputError
from extra_rl.export.adapter import HUB
from extra_rl.export.place import Exported
from extra_rl.models.policy import read_manifest
from extra_rl.tables.files import read_provenance

Facts = Sequence[tuple[str, str]]

LICENCE = (
    "Not stated: the exporting tool does not know it. It follows from the base model and the training data. Set "
    "`license` in the header of this file before you publish the model."
)


def card(policy: Exported, title: str, base: str | None, dtype: str, digests: Mapping[str, str]) -> str:
    """Return the text of README.md. Nothing is in it that no file of the run says.

    Args:
        policy: what was exported.
        title: heading.
        base: the base model of an adapter; None for whole weights.
        dtype: of the written weights.
        digests: written file of weights -> SHA-256.
    """
    initial = _initial_section(policy)
    source = str(initial.get("model", {}).get("source", ""))
    sections = [
        _header(base if base is not None else source, adapter=base is not None),
        f"# {title}",
        f"Policy `{policy.name}`, exported from a run of ExTra (reinforcement learning with verifiable rewards).",
        "## Use\n" + _use(base),
        "## Data\n" + _table(_data(policy, initial)),
        "## Training\n" + _table(_training(policy, initial, source)),
        "## Evaluation\n" + _evaluation(policy),
        "## Provenance\n" + _table([*provenance(policy, dtype), *((f"`{n}`", d) for n, d in digests.items())]),
        f"## Licence\n{LICENCE}",
    ]
    return "\n\n".join(sections) + "\n"


def provenance(policy: Exported, dtype: str) -> Facts:
    """Return name and value of each fact that identifies the policy."""
    job = policy.job
    place = [("arm", job.get("arm")), ("seed", job.get("seed")), ("iteration", job.get("iteration"))]
    packages = policy.content.get("packages", {})
    facts = [
        ("results", policy.results.name if policy.results else ""),
        *((name, "" if value in (None, "") else str(value)) for name, value in place if job.get("arm")),
        ("policy", f"SHA-256 {policy.content['digest']}"),
        ("configuration", _configuration(policy)),
        ("code", f"extra-rl {importlib.metadata.version('extra-rl')}, stage {job.get('stage')} {job.get('version')}"),
        ("packages of the run", ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))),
        ("weights", f"{policy.content['weights']:,} numbers in {dtype}" if "weights" in policy.content else dtype),
    ]
    return [(name, value) for name, value in facts if value]


def _header(base: str, *, adapter: bool) -> str:
    lines = ["---", f"library_name: {'peft' if adapter else 'transformers'}", "pipeline_tag: text-generation"]
    if HUB.fullmatch(base):
        lines.append(f"base_model: {base}")
    return "\n".join([*lines, "tags:", "- reinforcement-learning", "- rlvr", "- extra-rl", "---"])


def _use(base: str | None) -> str:
    if base is None:
        return (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'
        )
    return (
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({json.dumps(base)})\n"
        'model = PeftModel.from_pretrained(base, "FOLDER")\n```'
    )


def _initial_section(policy: Exported) -> dict[str, Any]:
    """The section `warm_start` of the run: task, model, supervised steps; {} where the policy is not found."""
    if policy.job.get("stage") == "warm_start":
        return dict(policy.job["config"])
    manifest = policy.input("initial")
    return dict(read_manifest(manifest).get("job", {}).get("config", {})) if manifest else {}


def _data(policy: Exported, initial: Mapping[str, Any]) -> Facts:
    task = initial.get("task", {})
    facts = [
        ("task", str(task.get("name", "not known"))),
        *((k, f"`{task[k]}`") for k in ("suffix", "system") if task.get(k)),
    ]
    prepare = policy.results / "prepare" if policy.results else Path("/nonexistent")
    if (prepare / "train.parquet").is_file():
        levels = pl.scan_parquet(prepare / "train.parquet", glob=False).group_by("benchmark").len().sort("benchmark")
        counts = ", ".join(f"{name} {count:,}" for name, count in levels.collect().iter_rows())
        facts.append(("training problems", counts))
    if (prepare / "sources.parquet").is_file():
        for row in pl.read_parquet(prepare / "sources.parquet", glob=False).iter_rows(named=True):
            place = row["dataset"] or row["path"] or "generated"
            commit = f", commit {row['commit']}" if row["commit"] else ""
            facts.append(
                (f"{row['split']}: {row['name']}", f"{place}{commit}, {row['taken']:,} rows, SHA-256 {row['digest']}")
            )
    return facts


def _training(policy: Exported, initial: Mapping[str, Any], source: str) -> Facts:
    shape = f", shape {json.dumps(initial['model']['shape'])}" if source == "new" else ""
    facts = [("initial model", f"{source or 'not known'}{shape}")]
    if initial:
        facts.append(("supervised steps before", str(initial.get("stop_at", 0))))
    section = policy.job.get("config", {}) if policy.job.get("stage") == "update" else {}
    facts += _course(policy)
    keys = ("loss", "learning_rate", "minibatches", "epochs", "clip_low", "clip_high", "importance_cap", "kl_weight")
    facts += [(key, json.dumps(section[key])) for key in keys if key in section]
    if section.get("lora"):
        facts.append(("lora", f"`{json.dumps(section['lora'])}`"))
    if sampling := section.get("sampling"):
        names = ("temperature", "top_p", "top_k", "max_response_tokens", "stop")
        facts.append(
            ("sampling", ", ".join(f"{name} {json.dumps(sampling[name])}" for name in names if name in sampling))
        )
    return facts


def _course(policy: Exported) -> Facts:
    """The reward of the policy's iteration, and how the run's settings changed before it; without empty values."""
    from extra_rl.report.provenance import schedule
    from extra_rl.report.setup import reward
    from extra_rl.run.fork import fork_lines, read_fork

    table = policy.manifest.parent.parent / "verify_generate.parquet"
    section = read_provenance(table).get("job", {}).get("config", {}) if table.is_file() else {}
    facts = [("reward", reward(section))]
    if policy.results:
        facts += [("forked from", "; ".join(fork_lines(read_fork(policy.results))))]
        facts += [("schedule", schedule(policy.results))]
    return [(name, value) for name, value in facts if value]


def _evaluation(policy: Exported) -> str:
    own = policy.manifest.parent.parent / "evaluate_figures.parquet"
    start = policy.input("initial")
    tables = {"this policy": own, "initial policy": start.parent.parent / own.name if start else own}
    found = {name: path for name, path in tables.items() if path.is_file()}
    if "this policy" not in found:
        return "This policy was not evaluated in its run."
    if found.get("initial policy") == own:
        del found["initial policy"]
    lines = [
        "| policy | benchmark | problems | metric | percent | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, path in found.items():
        figures = pl.read_parquet(path, glob=False).filter(pl.col("metric").cast(pl.String) == "pass_at_k")
        ks = {1, max(figures["k"].to_list(), default=1)}
        for row in figures.filter(pl.col("k").is_in(list(ks))).iter_rows(named=True):
            interval = f"{row['low']:.1f} to {row['high']:.1f}"
            cells = [name, row["benchmark"], str(row["problems"]), f"pass@{row['k']}", f"{row['value']:.1f}", interval]
            lines.append(f"| {' | '.join(cells)} |")
    section = read_provenance(own).get("job", {}).get("config", {})
    names = ("samples", "temperature", "top_p", "top_k", "max_response_tokens", "split")
    how = ", ".join(f"{name} {section[name]}" for name in names if name in section)
    note = "`mean` has equal weight for every benchmark. Intervals are bootstrap intervals over problems of one policy."
    return "\n".join([*lines, "", f"{note} Settings: {how}."])


def _configuration(policy: Exported) -> str:
    from extra_rl.report.provenance import config_digest, footers, sections
    from extra_rl.report.sources import find

    if policy.results is None:
        return ""
    try:
        return f"SHA-256 {config_digest(sections(footers(find(policy.results))))}"
    except InputError:  # no finished iteration: the run has an initial policy only
        return ""


def _table(facts: Facts) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
