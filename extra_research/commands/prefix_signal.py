"""Whether entropy or surprisal of a prefix predicts that its continuations are correct, in finished iterations.

extra prefix-signal results/mixed/grpo/s0/iteration_0003
extra prefix-signal results/mixed/grpo/s*/iteration_000*

It looks at incorrect fresh rollouts of hard groups, cut after every step. Generated tasks replay the steps before a
cut; for every task the continuations that the run sampled are read. It reads files alone. docs/counterfactuals.md
explains the columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from extra_research.finished import FinishedStage
    from extra_research.prefix_signal import Replay
    from extra_rl.config.sections import TaskConfig

HELP = "which score of a prefix predicts that its continuations are correct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iterations", type=Path, nargs="+", metavar="ITERATION", help="folders iteration_NNNN of a run")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: ITERATION/counterfactual; of several: next to them"
    )


def run(arguments: argparse.Namespace) -> int:
    import polars as pl

    from extra_research import contracts
    from extra_research.finished import folder_for, open_stage, write
    from extra_research.prefix_signal import signal_table
    from extra_research.text import signal_lines
    from extra_rl.errors import InputError

    folders: list[Path] = arguments.iterations
    out = arguments.out or folder_for(folders)
    choosers = [open_stage(folder, "choose_prefixes") for folder in folders]
    found = [signals_of(folder, chooser) for folder, chooser in zip(folders, choosers, strict=True)]
    if not any(len(prefixes) for both in found for prefixes in both):
        raise InputError(
            f"{folders[0]}: no failed rollout of a hard group has a step that can be replayed, and none was continued; "
            "name more iterations, of mathematics those of an arm that regenerates."
        )
    table = signal_table(*(pl.concat(tables, how="diagonal") for tables in zip(*found, strict=True)))
    paths = write(out, choosers, {"prefix_signal": (table, contracts.PrefixSignal)})
    print("\n".join([*signal_lines(table), f"  {paths[0]}"]))
    return 0


def signals_of(folder: Path, chooser: FinishedStage) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the prefixes of one iteration's hard groups, in two tables.

    The first has those that end with a step, with `steps` and whether they are sound; it is empty for a task whose
    steps cannot be replayed. The second has those that the run continued, with whether a continuation was correct.
    """
    import polars as pl

    from extra_research.finished import open_stage
    from extra_research.prefix_signal import continued_prefixes, scored_prefixes, sound_prefixes, texts_of, with_steps
    from extra_research.prefixes import continued_in
    from extra_rl.regeneration.candidates import boundary_tokens
    from extra_rl.tables.iteration import rollouts_of

    config = chooser.config()
    fresh = rollouts_of(chooser.inputs, "generate").filter(origin="fresh")
    failed = chooser.helper("failed_of_hard_groups")(fresh, config.max_pass_rate)
    prefixes = scored_prefixes(failed)
    tokenizer = chooser.inputs.policy("initial")  # the policy's own may have been removed; the tokenizer is the same
    ends_step = boundary_tokens(tokenizer, config.task.boundary, prefixes["last_token"].unique().to_list())
    steps = with_steps(prefixes.filter(pl.col("last_token").is_in(ends_step)))
    replay = replay_of(config.task, open_stage(folder, "generate").inputs["train"])
    return (
        sound_prefixes(steps, texts_of(steps, failed, tokenizer), replay) if replay else steps.clear(),
        continued_prefixes(prefixes, chooser.outputs["choose_prefixes"], continued_in(folder)),
    )


def replay_of(task: TaskConfig, train: pl.DataFrame) -> Replay | None:
    """Return the replay of a generated task on its training problems; None for other tasks."""
    from extra_rl.config.judges import is_generated
    from extra_rl.tasks.load import load_task

    if not is_generated(task.name):
        return None
    can_end_right = load_task(task).can_end_right
    rows = train.select("problem_id", "problem", "answer").iter_rows()
    problems = {problem_id: (problem, answer) for problem_id, problem, answer in rows}
    return lambda problem, text: can_end_right(*problems[problem], text)
