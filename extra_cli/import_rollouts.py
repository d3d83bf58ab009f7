"""Read rollouts that TRL, verl, verifiers or prime-rl saved, or any table of completions, as a run of ExTra.

extra import completions/ --to results/trl --answers train.parquet
extra import grpo=run1/rollouts dapo=run2/rollouts --to results/verl      # two arms
extra import rollouts.jsonl --to results/mine --model Qwen/Qwen3-1.7B --score

The responses are judged, and `extra show`, `explain`, `report`, `audit` and every stage work on the folder
(docs/import.md). Nothing is sampled or trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    from extra_rl.imported.folder import Import

HELP = "rollouts of TRL, verl, verifiers, prime-rl or any table, as a run"
FORMATS = ("trl", "verl", "prime-rl", "verifiers", "jsonl")
STEPS_SHOWN = 8
DEFAULT: dict[str, Any] = {"task": {"name": "math"}, "model": {"source": "new", "tokenizer": "bytes"}}
"""Mathematics, and one token a byte: every text can be read without a model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="[ARM[/sSEED]=]FILE", help="file, folder or pattern, with the arm that it becomes"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="RESULTS", help="new folder results/NAME")
    parser.add_argument("--config", type=Path, metavar="FILE", help="task, model and sections of the stages")
    parser.add_argument("--model", help="the model that sampled, for its tokenizer and template (model.source)")
    parser.add_argument("--format", choices=FORMATS, help="default: recognised by the columns")
    parser.add_argument("--arm", default="imported", help="arm of files without one (default imported)")
    parser.add_argument("--seed", type=int, default=0, help="seed of files without one (default 0)")
    parser.add_argument("--answers", metavar="FILE", help="problems with reference answers, for files without them")
    parser.add_argument(
        "--reward", metavar="COLUMN", help="take this column's numbers instead of a verifier's verdicts"
    )
    parser.add_argument(
        "--right-from", type=float, default=1.0, metavar="X", help="smallest reward of a correct response (default 1)"
    )
    parser.add_argument("--bad", choices=("refuse", "drop"), default="refuse", help="unusable rows (default refuse)")
    parser.add_argument("--no-judge", action="store_true", help="only write the tables")
    parser.add_argument("--score", action="store_true", help="also score the responses with the model")
    parser.add_argument("--update", action="store_true", help="also take the optimizer steps of one iteration")
    parser.add_argument(
        "--evaluations", action="store_true", help="the files are evaluations: compare the arms by pass@k"
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier import in RESULTS")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.config.section import parse_config
    from extra_rl.config.sections import ModelConfig, SamplingConfig, TaskConfig
    from extra_rl.imported import folder
    from extra_rl.imported.evaluation import samples_per_problem, write_evaluations
    from extra_rl.imported.tables import Writer
    from extra_rl.problems.prepared import tokenizer_of
    from stages import imported
    from stages.experiment import experiment_of

    if arguments.no_judge and (arguments.score or arguments.update or arguments.evaluations):
        raise ConfigError("--no-judge only writes the tables; leave out --score, --update and --evaluations.")
    given = [folder.Given.parse(word, arguments.arm, arguments.seed) for word in arguments.files]
    results: Path = arguments.to
    folder.require_free(results, arguments.force)
    raw = raw_of(arguments)
    sections = experiment_of(imported.raw_config(raw, results.name, {one.arm: [one.seed] for one in given}, 1))
    task = parse_config(TaskConfig, sections.common["prepare"]["task"], "task")
    model = parse_config(ModelConfig, sections.common["prepare"]["model"], "model")
    sampling = parse_config(SamplingConfig, sections.common["prepare"]["sampling"], "sampling")
    tokenizer = tokenizer_of(task, model)
    made = folder.read(
        given,
        tokenizer,
        task,
        stop=sampling.stop,
        form=arguments.format,
        answers_file=arguments.answers,
        reward=arguments.reward,
        drop=arguments.bad == "drop",
    )
    cells = {cell.arm: [c.seed for c in made.cells if c.arm == cell.arm] for cell in made.cells}
    longest = max(len(cell.iterations) for cell in made.cells)
    samples = samples_per_problem(made.cells) if arguments.evaluations else None
    config = imported.raw_config(raw, results.name, cells, longest, samples)
    experiment = experiment_of(config)
    settings = {"format": arguments.format, "reward": arguments.reward, "right_from": arguments.right_from}
    folder.write(made, results, tokenizer, config, settings, force=arguments.force)
    print("\n".join(lines_of(made, results)))
    if arguments.no_judge:
        return 0
    imported.run_stages(
        results,
        experiment,
        verify=arguments.reward is None,
        score=arguments.score or arguments.update,
        update=arguments.update,
    )
    if arguments.evaluations:
        writer = Writer(results, folder.settings_of(made, settings))
        imported.compare(results, experiment, write_evaluations(writer, results, made.cells))
    if arguments.reward is None:
        print("\n".join(agreement_lines(results, arguments.right_from)))
    return 0


def raw_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the raw configuration: that of --config or DEFAULT, with --model."""
    from extra_rl.config.files import read_yaml

    raw = dict(read_yaml(arguments.config)) if arguments.config else dict(DEFAULT)
    if arguments.model:
        given = raw.get("model") if arguments.config else None
        raw["model"] = {**(given if isinstance(given, dict) else {}), "source": arguments.model}
    return raw


def lines_of(made: Import, results: Path) -> list[str]:
    """Return what was read: arms, steps, rows that were left out, and what cannot be done without logprobs."""
    from extra_rl.imported.folder import bad_lines

    groups = sum(len({row.group for row in rows}) for cell in made.cells for rows in cell.iterations)
    problems = len({row.problem_id for cell in made.cells for rows in cell.iterations for row in rows})
    forms = ", ".join(sorted({one["format"] for one in made.files}))
    lines = [f"{results}: {made.rollouts} rollouts of {problems} problems in {groups} groups ({forms})"]
    for cell in made.cells:
        shown = [str(step) for step in cell.steps]
        shown = shown if len(shown) <= STEPS_SHOWN else [*shown[: STEPS_SHOWN - 2], "...", shown[-1]]
        steps = "" if cell.steps == [None] else f", steps {', '.join(shown)} of the file"
        lines.append(f"  {cell.name}: {len(cell.iterations)} iteration(s){steps}")
    if made.bad:
        lines.append(f"  {len(made.bad)} of {made.rows} rows left out:")
        lines += [f"    {line}" for line in bad_lines(made.bad)]
    if made.without_logprobs:
        lines.append(
            f"  {made.without_logprobs} rollouts have no sampler logprobs: update and choose_prefixes.scores_from: "
            "sampler refuse them"
        )
    return lines


def agreement_lines(results: Path, right_from: float) -> list[str]:
    """Return, for every arm, how often the verdicts agree with the rewards of the file; none without such rewards."""
    import polars as pl

    from extra_rl.results import RunFolder

    lines = []
    for run in RunFolder.below(results):
        rows = pl.concat(
            pl.read_parquet(folder / "verify_generate.parquet", columns=["rollout_id", "verdict"], glob=False).join(
                pl.read_parquet(folder / "imported.parquet", glob=False), on="rollout_id"
            )
            for folder in run.iterations().values()
        ).filter(pl.col("reward").is_not_null())
        if rows.is_empty():
            continue
        right, given = pl.col("verdict").cast(pl.String) == "right", pl.col("reward") >= right_from
        counts = rows.select(
            same=(right == given).sum(), only_here=(right & ~given).sum(), only_there=(given & ~right).sum()
        )
        same, here, there = counts.row(0)
        lines.append(
            f"{run.name}: the verdicts agree with the file's rewards on {same} of {len(rows)} rollouts; "
            f"{here} are correct only here, {there} only there (a reward of {right_from:g} or more)"
        )
    return lines
