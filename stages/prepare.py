"""Makes or reads the problems, in disjoint sets, with their prompts as the model will read them.

READS   nothing but the configuration (generated task) or the files it names (math)
ADDS    train, held_out (every benchmark's tuning and final problems), dropped (what was left out, and why)
SOURCE  disjoint by canonical problem: our decision; a prompt that leaves no room for a response is dropped and listed
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.errors import ConfigError
from extra_rl.sections import ModelConfig, SamplingConfig, TaskConfig
from extra_rl.stage import Context, Inputs, Stage, StageConfig
from extra_rl.tables import contracts
from extra_rl.tasks.problems import PreparedProblem, problems_of


class Config(StageConfig):
    """Which problems, how many, and for which context length."""

    task: TaskConfig = Field(description="shared section `task`")
    model: ModelConfig = Field(description="shared section `model`")
    sampling: SamplingConfig = Field(description="shared section `sampling`")
    train_per_level: dict[str, int] = Field({}, description="generated task: training problems of each level")
    tuning_per_level: int = Field(64, ge=0, description="generated task: held out per level, for tuning")
    final_per_level: int = Field(64, ge=0, description="generated task: held out per level, for the final figure")
    seed: int = Field(0, description="seed of the problem sets; experiment seeds share the problems")


STAGE = Stage(
    name="prepare",
    version=1,
    reads={},
    adds={
        "train": contracts.Problems,
        "held_out": contracts.Problems,
        "dropped": contracts.DroppedProblems,
    },
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Three tables: what is trained on, what is held out, what was dropped."""
    problems = problems_of(
        config.task,
        config.model,
        seed=config.seed,
        train_per_level=config.train_per_level,
        tuning_per_level=config.tuning_per_level,
        final_per_level=config.final_per_level,
    )
    room = config.model.context_tokens - config.sampling.max_response_tokens
    kept = [p for p in problems if len(p.prompt_tokens) <= room]
    dropped = [p for p in problems if len(p.prompt_tokens) > room]
    tables = {
        "train": frame([p for p in kept if p.split == "train"]),
        "held_out": frame([p for p in kept if p.split != "train"]),
        "dropped": contracts.DroppedProblems.cast(
            pl.DataFrame(
                {
                    "problem_id": [p.problem_id for p in dropped],
                    "split": [p.split for p in dropped],
                    "reason": [f"prompt longer than {room} tokens, the context less the response"] * len(dropped),
                    "prompt_length": [len(p.prompt_tokens) for p in dropped],
                }
            )
        ),
    }
    for name in ("train", "held_out"):
        if tables[name].is_empty():
            raise ConfigError(
                f"the {name} set is empty ({len(dropped)} problems dropped for their length). Check task and prepare: "
                "files, limits, numbers per level, model.context_tokens."
            )
    context.console.say(
        f"prepare: {len(tables['train'])} training problems, {len(tables['held_out'])} held out, "
        f"{len(dropped)} dropped because their prompt is longer than {room} tokens"
    )
    return tables


def frame(problems: list[PreparedProblem]) -> pl.DataFrame:
    columns = contracts.Problems.columns()
    return contracts.Problems.cast(
        pl.DataFrame({name: [getattr(p, name) for p in problems] for name in columns}, strict=False)
    )
