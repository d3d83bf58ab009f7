"""What a file of problems holds: recognised columns, rendered prompts, duplicates, reference answers, overlap.

extra data problems.jsonl
extra data train.parquet --model Qwen/Qwen3-1.7B --folder data/benchmarks    prompts and tokens of this model, overlap
extra data problems.csv --config config/my.yaml                             task, model, benchmarks of a configuration
extra data problems.csv --problem Question --answer "Final answer"          columns that no layout knows

FILE is a .parquet, .jsonl, .json, .csv or .tsv file (text also .gz), a folder or pattern of such files, or a directory
that `datasets` saved (docs/data.md). The exit code is 0 where `prepare` would keep every row, 1 where it would refuse
or leave out some, 2 for a file that cannot be read.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    from extra_rl.config.section import Section
    from extra_rl.config.sections import SourceConfig, TaskConfig
    from extra_rl.problems.clean import Removed
    from extra_rl.problems.survey import Survey

SectionT = TypeVar("SectionT", bound="Section")

HELP = "what a file of problems holds, before it is trained on"
SHOWN = 5
SHOWN_CHARACTERS = 1500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="FILE", help="file, folder, pattern, or a directory that `datasets` saved")
    parser.add_argument("--model", metavar="PATH", help="directory or hub name whose tokenizer renders the prompts")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take task, model, verifier and prepare from it")
    parser.add_argument("--folder", metavar="DIR", help="compare with the known benchmarks in this folder")
    parser.add_argument("--problem", metavar="COLUMN", help="column of the problem (default: recognised)")
    parser.add_argument("--answer", metavar="COLUMN", help="column of the reference answer (default: recognised)")
    parser.add_argument("--id", metavar="COLUMN", default="id", help="column of the id (default: id, else row numbers)")
    parser.add_argument("--split", default="train", help="of a saved directory (default: train)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N rows only")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.config.sections import VerifierConfig
    from extra_rl.problems.sources import read_source
    from extra_rl.problems.survey import survey
    from mathjudge.grade import progress_bar

    raw = configured(arguments.config)
    task = task_of(raw, arguments.folder)
    source = read_source(Path(arguments.data).stem or "data", source_of(arguments))
    tokenizer, about = tokenizer_for(arguments.model, raw, task)
    verifier = validated(VerifierConfig, raw.get("verifier") or {}, "verifier")
    benchmarks = [problem for name, config in task.benchmarks.items() for problem in read_source(name, config).problems]
    with progress_bar(len(source.problems)) as progress:
        found = survey(
            source,
            task,
            tokenizer,
            verifier,
            benchmarks=benchmarks,
            template_share=template_share(raw),
            progress=progress,
        )
    print("\n".join([*recognised(found), *prompts(found, about), *faults(found, sorted(task.benchmarks))]))
    return 1 if found.faults else 0


def validated(kind: type[SectionT], section: dict[str, Any], name: str) -> SectionT:
    """A section of the configuration. Raises ConfigError that lists all mistakes."""
    from pydantic import ValidationError

    from extra_rl.config.section import mistakes

    try:
        return kind.model_validate(section)
    except ValidationError as error:
        raise ConfigError("; ".join(mistakes(error, kind, name))) from None


def configured(path: Path | None) -> dict[str, Any]:
    """The configuration file's sections, none without a file."""
    from extra_rl.config.files import read_yaml

    return dict(read_yaml(path)) if path else {}


def source_of(arguments: argparse.Namespace) -> SourceConfig:
    """The source that the options describe; rows without a value are counted and not refused."""
    from extra_rl.config.sections import SourceConfig

    keys = ("problem", "answer", "id", "split", "limit")
    given = {key: getattr(arguments, key) for key in keys}
    return validated(SourceConfig, {"path": arguments.data, "missing": "drop", **given}, "data")


def task_of(raw: dict[str, Any], folder: str | None) -> TaskConfig:
    """The section `task`: its prompts and benchmarks; with `folder`, the known benchmarks that are found there."""
    from extra_rl.config.benchmarks import find_file, registry
    from extra_rl.config.sections import TaskConfig

    section = {**(raw.get("task") or {})}
    section.pop("train", None)  # the file at hand is what is examined
    if section.get("name", "math") != "math":
        raise ConfigError("--config: `extra data` examines problems of the task `math`; other tasks make their own.")
    if folder is not None:
        known = registry("benchmarks")
        try:
            named = [name for name, entry in known.items() if find_file(Path(folder), entry["files"])]
        except ValueError as error:
            raise ConfigError(f"--folder: {error}") from None
        if not named:
            raise ConfigError(f"--folder: {folder} has no file of a known benchmark ({', '.join(known)}).")
        section |= {"folder": folder, "benchmarks": named}
    return validated(TaskConfig, {**section, "name": "math"}, "task")


def tokenizer_for(model: str | None, raw: dict[str, Any], task: TaskConfig) -> tuple[Any, str]:
    """The tokenizer that renders the prompts, and its name: of --model, else of the configuration, else bytes."""
    from extra_rl.config.sections import ModelConfig
    from extra_rl.models.load import load_tokenizer
    from extra_rl.models.tokenizers import byte_level
    from extra_rl.problems.prepared import tokenizer_of

    if model is not None:
        return load_tokenizer(model), model
    section = raw.get("model") or {}
    if section.get("source", "new") != "new":
        return tokenizer_of(task, validated(ModelConfig, section, "model")), str(section["source"])
    return byte_level(), "one token a byte, ChatML; --model names yours"


def template_share(raw: dict[str, Any]) -> float:
    """`prepare.template_share` of the configuration, or its default. Raises ConfigError for what is no share."""
    from extra_rl.problems.templates import TEMPLATE_SHARE

    share = (raw.get("prepare") or {}).get("template_share", TEMPLATE_SHARE)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError(f"prepare.template_share: {share!r} is not a number from 0 to 1.")
    return float(share)


def recognised(found: Survey) -> Iterator[str]:
    """Format, columns and numbers of rows, line by line."""
    from extra_rl.problems.columns import shown
    from extra_rl.problems.survey import roles_of

    source, roles = found.source, found.source.roles
    yield f"format       {source.format}, layout: {roles.layout}"
    turns = ", ".join(f"{count} {role}" for role, count in roles_of(source.problems).items())
    yield f"problem      {roles.problem}" + (f" (conversations: {turns} messages)" if turns else "")
    yield f"answer       {roles.answer}"
    yield f"id           {roles.id or 'row numbers'}"
    if unused := [name for name in source.columns if name not in columns_of(roles.problem, roles.answer, roles.id)]:
        yield f"not read     {shown(unused)}"
    yield f"rows         {source.rows}, of which {len(source.problems)} are problems"
    yield f"missing      {len(source.missing)} rows without a value" + listed(
        [f"{one.problem.place}: {one.column}" for one in source.missing]
    )


def columns_of(*paths: str | None) -> set[str]:
    """Columns that are read, by their names and the names of the structs around them."""
    return {name for path in paths if path for name in (path, path.partition(".")[0])}


def prompts(found: Survey, about: str) -> Iterator[str]:
    """Lengths, and the shortest, median and longest prompt as they are sent."""
    from extra_rl.problems.survey import QUANTILES

    if not found.prompts:
        yield "tokens       no row has a problem, an answer and an id"
        return
    lengths = ", ".join(f"{share:.0%} {tokens}" for share, tokens in zip(QUANTILES, found.token_quantiles, strict=True))
    yield f"tokens       of a prompt, at most, for this share of rows: {lengths} ({about})"
    places = {problem.problem_id: problem.place for problem in found.source.problems}
    for problem in found.examples:
        yield f"--- {places[problem.problem_id]}: {len(problem.prompt_tokens)} tokens, answer {problem.answer!r}"
        yield shortened(problem.prompt)
    yield "---"


def faults(found: Survey, benchmarks: Sequence[str]) -> Iterator[str]:
    """Duplicates, reference answers and overlap, line by line."""
    from extra_rl.problems.survey import reason_of

    repeated = Counter(one.rule for one in found.repeated)
    yield (
        f"duplicates   {repeated['duplicate']} rows repeat another, {repeated['contradictory']} have contradictory "
        "reference answers" + listed_rows(found.repeated)
    )
    yield f"unmatched    {len(found.unmatched)} reference answers do not match themselves" + listed(
        [f"{one.problem.place}: {one.problem.answer!r}, {reason_of(one)}" for one in found.unmatched]
    )
    yield f"prose        {len(found.prose)} reference answers are words or code and not mathematics" + listed(
        [f"{one.place}: {one.answer!r}" for one in found.prose]
    )
    if found.overlap is None:
        yield "overlap      not compared: name benchmarks with --folder, or with --config and its task.benchmarks"
        return
    by_rule = ", ".join(f"{rule} {count}" for rule, count in found.overlap.by_rule.items())
    yield (
        f"overlap      {len(found.overlap.removed)} rows overlap {', '.join(benchmarks)}"
        + (f" ({by_rule})" if by_rule else "")
        + listed_rows(found.overlap.removed)
    )
    if found.overlap.spared:
        yield f"             {found.overlap.spared} share only the words of a template (prepare.template_share)"


def listed_rows(removed: Sequence[Removed]) -> str:
    """The first rows and their reasons, after a colon."""
    return listed([f"{one.problem.place}: {one.reason}" for one in removed])


def listed(lines: Sequence[str]) -> str:
    """The first lines, indented below what they belong to."""
    shown = "".join(f"\n             {shortened(line, 200)}" for line in lines[:SHOWN])
    return shown + (f"\n             ... and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")


def shortened(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Untrusted text for a terminal: what cannot be printed is escaped, and a long text loses its middle."""
    if len(text) > most:
        text = f"{text[: most // 2]} [... {len(text) - most} characters ...] {text[-most // 2 :]}"
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
