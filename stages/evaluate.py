"""Sample a policy on the held-out benchmarks and judge every sample; samples are cached (docs/evaluation.md).

READS   held_out, policy
WRITES  evaluate: one row per sample, with its tokens, text and verdict
        evaluate_figures: pass@k and maj@k for every k, lengths and rates, each with its interval
SOURCE  docs/method.md 5 and 6: 16 samples a problem, unbiased pass@k, bootstrap over problems
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import ComputeConfig, SamplingConfig, Stop, TaskConfig, VerifierConfig
from extra_rl.errors import InputError
from extra_rl.evaluation import Evaluation
from extra_rl.evaluation.policies import EvaluatedPolicy
from extra_rl.judging.dispatch import user_code_of
from extra_rl.run.progress import Console
from extra_rl.run.records import OPENING_SECONDS
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.tables import contracts
from extra_rl.user_code import require_source

OWN = ("temperature", "top_p", "top_k", "max_response_tokens", "stop")
"""Keys that evaluation has itself instead of those of `sampling`."""


class Config(StageConfig):
    """The held-out problems, the number of samples, and their sampling."""

    task: TaskConfig = Field(description="shared section `task`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    sampling: SamplingConfig = Field(description="shared section `sampling`: backend and batch size")
    compute: ComputeConfig = Field(description="shared section `compute`")
    split: Literal["tuning", "final"] = Field("final", description="tuning: to choose settings; final: to report")
    samples: int = Field(16, ge=1, description="samples per problem")
    temperature: float = Field(1.0, gt=0, description="sampling temperature of the evaluation")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling of the evaluation")
    top_k: int = Field(0, ge=0, description="top-k of the evaluation; 0: all")
    max_response_tokens: int = Field(
        64, ge=1, description="maximum tokens of a response, at which a sample is truncated"
    )
    stop: Stop | None = Field(
        None, description="texts that end a response in the evaluation; null: those of `sampling`; []: none"
    )
    seed: int = Field(
        0,
        ge=0,
        description="seed of the samples; the same for all policies, so that paired samples share their noise",
    )
    cache: str | None = Field("results/evaluations", description="folder in which samples are cached; null: no cache")
    part_samples: int = Field(
        512, ge=1, description="samples between two writes to the cache (whole batches): the most that a kill loses"
    )

    @property
    def stops(self) -> list[str]:
        """The stop strings: by default those of training, because a policy learns to end by them."""
        return self.sampling.stop if self.stop is None else self.stop


class Derived(Section):
    """Values that follow from other sections."""

    judge_source: str = Field("", description="digest of the source text of a user's judge")


STAGE = Stage(
    name="evaluate",
    version=3,
    reads={"held_out": contracts.Problems, "policy": PolicyDirectory},
    writes={"evaluate": contracts.EvaluationSamples, "evaluate_figures": contracts.EvaluationFigures},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return `samples` rows for every problem of the split, in the order of the problems, and their figures."""
    from extra_rl.evaluation.policies import policy_of_manifest

    require_source(user_code_of(config.task), context.derived.judge_source)
    problems = inputs["held_out"].filter(pl.col("split") == config.split)
    if problems.is_empty():
        raise InputError(
            f"held_out has no problem of the split {config.split!r}. Set prepare.{config.split}_per_level, for "
            "mathematics task.benchmarks (final) and prepare.tuning_problems (tuning)."
        )
    label = f"evaluate {context.job.arm or 'warm start'}"
    made = evaluated(problems, policy_of_manifest(inputs.policy()), config, context.console, label)
    context.figures[OPENING_SECONDS] = made.opening_seconds
    return {"evaluate": made.samples, "evaluate_figures": made.figures}


def evaluated(
    problems: pl.DataFrame, policy: EvaluatedPolicy, config: Config, console: Console, label: str
) -> Evaluation:
    """Return the evaluation of any policy; `extra evaluate` runs it without a pipeline.

    Args:
        problems: to sample for.
        policy: to evaluate.
        config: the section `evaluate`.
        console: for progress and figures.
        label: begins the printed lines.
    """
    from extra_rl.evaluation import evaluate

    return evaluate(
        problems,
        policy,
        task=config.task,
        verifier=config.verifier,
        sampling=SamplingConfig(
            **config.sampling.model_dump(exclude=set(OWN)),
            **config.model_dump(include=set(OWN)) | {"stop": config.stops},
        ),
        compute=config.compute,
        samples=config.samples,
        seed=config.seed,
        cache=Path(config.cache) if config.cache else None,
        part_samples=config.part_samples,
        console=console,
        label=label,
    )
