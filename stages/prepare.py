"""Generates or reads the problems, in disjoint sets, with their prompts exactly as the model reads them.

READS   source (math: the local files that the configuration names; a data set of the hub is read by its name)
WRITES  train, held_out (every benchmark's tuning and final problems), dropped (what was left out, and why), sources
SOURCE  disjoint by canonical problem: our decision. Mathematics: a training problem is dropped and listed if it
        overlaps a benchmark, repeats another problem, has contradictory reference answers or one that cannot be judged
        against (`extra_rl.problems.clean`), or if its prompt leaves no tokens for a response. Benchmarks are never
        thinned.
        Reasoning Gym: `extra_rl.problems.gym_items`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import polars as pl
from pydantic import Field, model_validator

from extra_rl.config.judges import TASKS
from extra_rl.config.mistakes import nearest
from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import ModelConfig, SamplingConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging.gym_library import NOTES
from extra_rl.models.context import context_tokens_of
from extra_rl.models.protocol import Tokenizer
from extra_rl.problems.clean import Removed
from extra_rl.problems.gym_items import counts_of, gym_problems
from extra_rl.problems.listing import Row, gym_rows, removed_row, source_row, table, too_long_row
from extra_rl.problems.prepared import (
    PreparedProblem,
    generated_problems,
    prepared,
    problems_frame,
    refuse_long,
    set_aside,
    split_by_length,
    tokenizer_of,
)
from extra_rl.problems.sources import RawProblem, Source, read_source
from extra_rl.problems.templates import TEMPLATE_SHARE
from extra_rl.problems.training import check_prose, cleaned, missing_values, without_examples
from extra_rl.run.stage import Context, Inputs, SourceFile, Stage
from extra_rl.tables import contracts
from extra_rl.tasks.load import load_task
from extra_rl.user_code import require_source


class Config(StageConfig):
    """Which problems, and how many; the context length limits their prompts."""

    task: TaskConfig = Field(description="shared section `task`")
    model: ModelConfig = Field(description="shared section `model`")
    sampling: SamplingConfig = Field(description="shared section `sampling`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    train_per_level: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="generated task: training problems per level; reasoning_gym: at most that many per set"
    )
    tuning_per_level: int = Field(
        64, ge=0, description="generated task, reasoning_gym: held-out problems per level, for tuning"
    )
    final_per_level: int = Field(
        64, ge=0, description="generated task, reasoning_gym: held-out problems per level, for the final evaluation"
    )
    tuning_problems: int = Field(
        0, ge=0, description="math: training problems held out as split `tuning`, so that no benchmark is tuned on"
    )
    template_share: float = Field(
        TEMPLATE_SHARE,
        ge=0,
        le=1,
        description="math: word n-grams that more than this share of a source's rows (and more than 10) have in "
        "common, numbers alike, belong to a template and are no sign of overlap (docs/data.md); 0: every n-gram is one",
    )
    prose_references: float = Field(
        0.1,
        ge=0,
        le=1,
        description="math: largest share of a source's reference answers that may be words or code instead of "
        "mathematics; 1: any",
    )
    seed: int = Field(0, ge=0, description="seed of the problem sets; experiment seeds share the problems")

    @model_validator(mode="after")
    def levels_are_those_of_the_task(self) -> Config:
        if self.task.name == "reasoning_gym":
            try:
                counts_of(self.task.sets, self.train_per_level, self.tuning_per_level, self.final_per_level)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        elif self.task.name in TASKS:  # the levels of a task of one's own are checked before the first job
            levels = load_task(self.task).levels
            for level in self.train_per_level:
                if level not in levels:
                    raise ValueError(
                        f"train_per_level: the task {self.task.name} has no level {level!r}; it has "
                        f"{', '.join(levels)}{nearest(level, levels)}"
                    )
        return self


class Derived(Section):
    """Values that follow from other sections."""

    task_source: str = Field("", description="digest of the source text of a user's task")


STAGE = Stage(
    name="prepare",
    version=5,
    reads={"source*": SourceFile},
    writes={
        "train": contracts.Problems,
        "held_out": contracts.Problems,
        "dropped": contracts.DroppedProblems,
        "sources": contracts.Sources,
    },
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Four tables: what is trained on, what is held out, what was dropped, where it came from."""
    require_source(config.task.name, context.derived.task_source)
    tokenizer = tokenizer_of(config.task, config.model)
    room = context_tokens_of(config.model) - config.sampling.max_response_tokens
    sources: list[tuple[str, Source]] = []
    if config.task.name == "math":
        sources = read_sources(inputs, config.task)
        if config.task.mathematics:
            check_prose([source for _, source in sources], config.prose_references, context)
        problems, dropped = from_sources(sources, config, context, tokenizer, room)
    elif config.task.name == "reasoning_gym":
        problems, dropped = from_gym(config, context, tokenizer, room)
    else:
        problems, dropped = generated(config, tokenizer, room)
    sets = {
        "train": [problem for problem in problems if problem.split == "train"],
        "held_out": [problem for problem in problems if problem.split != "train"],
    }
    for name, members in sets.items():
        if not members and not (name == "train" and without_training(config)):
            raise ConfigError(
                f"the {name} set is empty ({len(dropped)} problems dropped). Check task and prepare: files, limits, "
                "numbers per level, model.context_tokens."
            )
    long = sum(row["rule"] == "too_long" for row in dropped)
    context.console.say(
        f"prepare: {len(sets['train'])} training problems, {len(sets['held_out'])} held out, "
        f"{long} dropped because their prompt is longer than {room} tokens"
    )
    return {
        **{name: problems_frame(members) for name, members in sets.items()},
        "dropped": table(contracts.DroppedProblems, dropped),
        "sources": table(
            contracts.Sources, [source_row(split, source) for split, source in sources] + gym_rows(config.task)
        ),
    }


def generated(config: Config, tokenizer: Tokenizer, room: int) -> tuple[list[PreparedProblem], list[Row]]:
    """The problems of a generated task, and those whose prompt is too long."""
    problems = generated_problems(
        config.task,
        tokenizer,
        seed=config.seed,
        train_per_level=config.train_per_level,
        tuning_per_level=config.tuning_per_level,
        final_per_level=config.final_per_level,
    )
    texts = {p.problem_id: RawProblem(p.problem_id, p.benchmark, p.problem, p.answer) for p in problems}
    kept, long = split_by_length(problems, room)
    return kept, [too_long_row(problem, texts[problem.problem_id], room) for problem in long]


def from_gym(
    config: Config, context: Context, tokenizer: Tokenizer, room: int
) -> tuple[list[PreparedProblem], list[Row]]:
    """The problems of the sets of Reasoning Gym, and those that were dropped. Prints known faults of their scorers."""
    task = config.task
    counts = counts_of(task.sets, config.train_per_level, config.tuning_per_level, config.final_per_level)
    for name, chosen in task.sets.items():
        if note := NOTES.get(chosen.dataset):
            context.console.say(f"WARNING: task.sets.{name} ({chosen.dataset}): {note}.")
    problems, left_out = gym_problems(
        task, config.verifier, counts, tokenizer, prompt_tokens=room, seed=config.seed, context=context
    )
    dropped = [
        removed_row(found.removed)
        | {
            "split": found.problem.split,
            "prompt_length": len(found.problem.prompt_tokens) if found.removed.rule == "too_long" else None,
        }
        for found in left_out
    ]
    rules = Counter(found.removed.rule for found in left_out)
    context.console.say(
        f"prepare: of {sum(chosen.size for chosen in task.sets.values())} items {rules['duplicate']} are duplicates, "
        f"{rules['unverifiable']} cannot be verified"
    )
    return problems, dropped


def without_training(config: Config) -> bool:
    """Whether the configuration only evaluates: problems are held out, and there is nothing to train on."""
    task = config.task
    if task.name == "reasoning_gym":
        return all(config.train_per_level.get(name) == 0 for name in task.sets)
    return task.name == "math" and not task.train


def read_sources(inputs: Inputs, task: TaskConfig) -> list[tuple[str, Source]]:
    """Split and source, training sets first. A single local file is read from the path of the stage's input."""
    if not task.benchmarks:
        raise ConfigError("task `math` needs at least one of task.benchmarks, and task.train to train on.")
    if thinned := [name for name, source in task.benchmarks.items() if source.missing == "drop"]:
        raise ConfigError(
            f"task.benchmarks.{thinned[0]}.missing: drop is for training sets; a score on part of a benchmark is not "
            "that benchmark's. Mend the file."
        )
    wanted = [("train", task.train), ("final", task.benchmarks)]
    return [
        (split, read_source(name, source, inputs.paths.get(f"source:{name}")))
        for split, named in wanted
        for name, source in named.items()
    ]


def from_sources(
    sources: list[tuple[str, Source]], config: Config, context: Context, tokenizer: Tokenizer, room: int
) -> tuple[list[PreparedProblem], list[Row]]:
    """Cleaned training problems, some of them set aside for tuning, and whole benchmarks; and what was removed."""
    given = [problem for split, source in sources if split == "train" for problem in source.problems]
    benchmarks = [problem for split, source in sources if split == "final" for problem in source.problems]
    training, removed = cleaned(
        given,
        benchmarks,
        config.template_share,
        config.verifier,
        context,
        mathematics=config.task.mathematics,
    )
    removed += missing_values([source for _, source in sources], context)
    training, examples = without_examples(training, config.task.examples)
    removed += [Removed(problem, "example", "an example of every prompt (task.examples)") for problem in examples]
    shown = [(problem.text, str(problem.solution)) for problem in examples]
    final = prepared(benchmarks, "final", config.task, tokenizer, shown)
    refuse_long(split_by_length(final, room)[1], room)
    texts = {problem.problem_id: problem for problem in training}
    kept, long = split_by_length(prepared(training, "train", config.task, tokenizer, shown), room)
    dropped = [removed_row(found) for found in removed]
    dropped += [too_long_row(problem, texts[problem.problem_id], room) for problem in long]
    return set_aside(kept, config.tuning_problems, config.seed) + final, dropped
