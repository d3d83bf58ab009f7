"""From plans of rollouts to the rollouts table; shared by `generate` and `regenerate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.results import continuation_group, without_arm
from extra_rl.sampling.base import Advance, Request, Sample, longest_of, refuse_not_finite
from extra_rl.seeding import derive_seed
from extra_rl.tables import contracts

Roll = Callable[[Sequence["Plan"], Advance], pl.DataFrame]
"""Plans of one call of a sampler, and its progress callback -> rollouts table."""


@dataclass(frozen=True)
class Plan:
    """One rollout to sample: its lineage, its prompt, and the prefix of a continuation with its logprobs.

    expected: estimated length of the whole response, prefix included, for balancing shards; None: unknown.
    """

    rollout_id: str
    group_id: str
    problem_id: str
    origin: str
    prompt_tokens: list[int]
    prefix_id: str | None = None
    parent_rollout_id: str | None = None
    prefix_tokens: tuple[int, ...] = ()
    prefix_logprobs: tuple[float, ...] = ()
    expected: int | None = None


def fresh_plans(selection: pl.DataFrame, train: pl.DataFrame, group_size: int, first: int = 0) -> list[Plan]:
    """Return `group_size` plans for every selected problem; their numbers within the group begin with `first`."""
    rows = selection.join(
        train.select("problem_id", "prompt_tokens"), on="problem_id", how="left", maintain_order="left"
    )
    return [
        Plan(f"{row['group_id']}/{n}", row["group_id"], row["problem_id"], "fresh", row["prompt_tokens"])
        for row in rows.iter_rows(named=True)
        for n in range(first, first + group_size)
    ]


def continuation_plans(prefixes: pl.DataFrame, when: str, place: str) -> list[Plan]:
    """Return the continuations of the chosen prefixes that are due `when`; their ids name the group they belong to."""
    plans: list[Plan] = []
    count_of: dict[str, int] = {}
    for row in prefixes.filter(pl.col("chosen") & (pl.col("when") == when)).iter_rows(named=True):
        continued = continuation_group(row["group_id"], place)
        if row["prefix_logprobs"] is None and row["continuations"]:
            raise InputError(
                f"prefix {row['prefix_id']} was cut from a rollout that was imported without the sampler's logprobs, "
                "so its continuations could not be trained on. Set choose_prefixes.groups: 0, or import the logprobs."
            )
        for _ in range(row["continuations"]):
            n = count_of[row["group_id"]] = count_of.get(row["group_id"], -1) + 1
            plans.append(
                Plan(
                    rollout_id=f"{continued}/{n}",
                    group_id=row["group_id"],
                    problem_id=row["problem_id"],
                    origin="regenerated",
                    prompt_tokens=row["prompt_tokens"],
                    prefix_id=row["prefix_id"],
                    parent_rollout_id=row["parent_rollout_id"],
                    prefix_tokens=tuple(row["prefix_tokens"]),
                    prefix_logprobs=tuple(row["prefix_logprobs"]),
                    expected=row["parent_length"],
                )
            )
    return plans


def refuse_cut_distribution(sampling: SamplingConfig) -> None:
    """Raise ConfigError for top-p or top-k in training, where the samples must follow the policy's distribution."""
    if sampling.top_p < 1 or sampling.top_k > 0:
        raise ConfigError(
            "sampling.top_p < 1 or sampling.top_k > 0 cannot be trained on: the sampled distribution would not be the "
            "policy's, whose logprobs the loss needs. Use top_p: 1.0, top_k: 0 (evaluate has its own)."
        )


@contextmanager
def open_roller(
    plans: Sequence[Plan], policy: Path, sampling: SamplingConfig, compute: ComputeConfig, seed: int
) -> Iterator[Roll]:
    """A function that samples some of the `plans` in one call of the sampler and returns their rollouts table.

    A rollout's seed follows from `seed` and its id without the arm, so that its tokens do not depend on what else is
    sampled, nor in which call. A prefix counts against the response limit and keeps the logprobs that it was sampled
    with.

    Args:
        plans: all that may be sampled; they set the longest context.
        policy: manifest, or a directory of a transformers model.
        sampling: the shared section.
        compute: the shared section.
        seed: of the stage.
    """
    from extra_rl.sampling.open import open_sampler

    longest = longest_of([_request(plan, sampling, seed) for plan in plans])
    with open_sampler(policy, sampling, compute, longest) as (sampler, decode):

        def roll(chosen: Sequence[Plan], advance: Advance) -> pl.DataFrame:
            requests = [_request(plan, sampling, seed) for plan in chosen]
            samples = sampler.sample(requests, sampling, advance)
            refuse_not_finite(samples, policy)
            return _table(chosen, samples, decode)

        yield roll


def _request(plan: Plan, sampling: SamplingConfig, seed: int) -> Request:
    return Request(
        context=(*plan.prompt_tokens, *plan.prefix_tokens),
        max_tokens=max(1, sampling.max_response_tokens - len(plan.prefix_tokens)),
        seed=derive_seed(seed, without_arm(plan.rollout_id)),
        prefix_length=len(plan.prefix_tokens),
    )


def _table(
    plans: Sequence[Plan], samples: Sequence[Sample], decode: Callable[[Sequence[Sequence[int]]], list[str]]
) -> pl.DataFrame:
    responses = [[*plan.prefix_tokens, *sample.tokens] for plan, sample in zip(plans, samples, strict=True)]
    return contracts.Rollouts.cast(
        pl.DataFrame(
            [_row(plan, sample, response) for plan, sample, response in zip(plans, samples, responses, strict=True)],
            infer_schema_length=None,
        ).with_columns(response=pl.Series(decode(responses)))
    )


def _row(plan: Plan, sample: Sample, response: list[int]) -> dict[str, object]:
    return {
        "rollout_id": plan.rollout_id,
        "group_id": plan.group_id,
        "problem_id": plan.problem_id,
        "origin": plan.origin,
        "prefix_id": plan.prefix_id,
        "parent_rollout_id": plan.parent_rollout_id,
        "prefix_length": len(plan.prefix_tokens),
        "prompt_tokens": plan.prompt_tokens,
        "response_tokens": response,
        "sampler_logprobs": [*plan.prefix_logprobs, *sample.logprobs],
        "sampled_tokens": len(sample.tokens),
        "finish_reason": sample.finish_reason,
    }
