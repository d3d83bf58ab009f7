"""The bank of stored trajectories: rows of `contracts.ReplayBank`, their results, and the choice of those replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from extra_rl.algorithms.replay import next_position, position_of_half, priority, success_estimate
from extra_rl.regeneration.candidates import Candidate
from extra_rl.regeneration.continued import Outcome
from extra_rl.regeneration.settings import ReplayConfig
from extra_rl.results import replay_group, without_arm
from extra_rl.seeding import generator
from extra_rl.tables import contracts


@dataclass(frozen=True)
class Stored:
    """A stored trajectory; a row of `contracts.ReplayBank`, whose columns these are."""

    group_id: str
    problem_id: str
    entry: str
    rollout_id: str | None
    prompt_tokens: tuple[int, ...]
    response_tokens: tuple[int, ...]
    response_logprobs: tuple[float, ...]
    cuts: tuple[int, ...]
    cut_reason: str
    position: int
    born: int
    successes: int = 0
    tries: int = 0
    tried_tokens: int = 0
    failures: int = 0
    last_served: int | None = None
    priority: float = 0.0

    @property
    def prefix_length(self) -> int:
        """b_k, in tokens."""
        return self.cuts[self.position - 1] if self.position else 0

    @property
    def remaining(self) -> float:
        """L: mean tokens of the continuations at this position; before the first, those of the trajectory itself."""
        if self.tries:
            return self.tried_tokens / self.tries
        return float(len(self.response_tokens) - self.prefix_length)

    def allowed(self, config: ReplayConfig) -> range:
        """The positions that the trajectory may take."""
        last = len(self.cuts)
        if config.cut == "prompt":
            return range(1)
        if config.cut == "last":
            return range(last, last + 1)
        return range(0 if config.serve_prompt and self.entry != "failure" else 1, last + 1)

    def tokens_left(self, position: int) -> int:
        """Tokens of the trajectory after the cut of a position."""
        return len(self.response_tokens) - (self.cuts[position - 1] if position else 0)

    def towards_half(self, step: int, outcome: Outcome, config: ReplayConfig) -> int:
        """With `move: half`, the position at or beyond `step` where half should be correct. step: one position away.

        Failed trajectories move by one position: how the success falls along a failure is not known.
        """
        if self.entry == "failure":
            return step
        allowed = self.allowed(config)
        beyond = [k for k in allowed if (k <= step if step < self.position else k >= step)]
        p = success_estimate(self.successes + outcome.right, self.tries + outcome.judged)
        left = [float(self.tokens_left(k)) for k in range(len(self.cuts) + 1)]
        return position_of_half(left, beyond, p, left[self.position])

    def after(self, outcome: Outcome, config: ReplayConfig) -> Stored | None:
        """The trajectory after a group of replays; None where it is finished."""
        move = next_position(
            self.position,
            self.allowed(config),
            outcome.right / outcome.judged,
            harder=1 if self.entry == "failure" else -1,
            failures=self.failures,
            easy_share=config.easy_share,
            hard_share=config.hard_share,
            drop_after=config.drop_after,
        )
        if move.position is None:
            return None
        if move.position != self.position:
            position = self.towards_half(move.position, outcome, config) if config.move == "half" else move.position
            return replace(self, position=position, successes=0, tries=0, tried_tokens=0, failures=0)
        return replace(
            self,
            successes=self.successes + outcome.right,
            tries=self.tries + outcome.judged,
            tried_tokens=self.tried_tokens + outcome.sampled_tokens,
            failures=move.failures,
        )


def read_bank(table: pl.DataFrame) -> list[Stored]:
    """The rows of a table ReplayBank, in their order."""
    bank = []
    for row in table.iter_rows(named=True):
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
        bank.append(Stored(**values))
    return bank


def bank_frame(bank: Sequence[Stored]) -> pl.DataFrame:
    """The table ReplayBank of these rows."""
    rows = [{name: getattr(one, name) for name in contracts.ReplayBank.columns()} for one in bank]
    return contracts.ReplayBank.cast(pl.DataFrame(rows, schema=contracts.ReplayBank.create_empty().schema))


def with_results(
    bank: Sequence[Stored], outcomes: Mapping[str, Outcome], config: ReplayConfig, iteration: int
) -> list[Stored]:
    """The bank after the replays that were judged since the last choice, without what is finished or too old.

    Args:
        bank: of the previous iteration.
        outcomes: group_id of a stored trajectory -> outcome of its replays.
        config: thresholds and `max_age`.
        iteration: this one.
    """
    young = [one for one in bank if iteration - one.born <= config.max_age]
    moved = [one.after(outcomes[one.group_id], config) if one.group_id in outcomes else one for one in young]
    return [one for one in moved if one is not None]


def joined_by(bank: Sequence[Stored], found: Sequence[Stored]) -> list[Stored]:
    """The bank with those of `found` whose problem is not stored yet; the first of a problem is taken."""
    by_problem = {one.problem_id: one for one in bank}
    for one in found:
        by_problem.setdefault(one.problem_id, one)
    return list(by_problem.values())


def served(
    bank: Sequence[Stored], config: ReplayConfig, *, place: str, iteration: int, seed: int
) -> tuple[list[Candidate], list[Stored]]:
    """The prefixes to replay, best first, and the bank for the next iteration, reduced to its capacity.

    The order is that of descending priority; of equal ones, the one that was served longest ago comes first, then the
    one that was stored first. A trajectory without a partner of equal length is passed over by `prefix: other_problem`.
    A bank of fewer than `min_stored` trajectories replays none.

    Args:
        bank: rows of this iteration.
        config: what is replayed, and how often.
        place: of this iteration, which names the groups.
        iteration: this one.
        seed: of the partners.
    """
    rated = [replace(one, priority=_priority(one, config)) for one in bank]
    order = sorted(rated, key=lambda one: (-one.priority, -1 if one.last_served is None else one.last_served))
    chosen: dict[str, Candidate] = {}
    rows = config.rows if len(rated) >= config.min_stored else 0
    for one in order:
        rested = one.last_served is None or iteration - one.last_served > config.rest
        partner = _partner(one, rated, config, seed) if rested and len(chosen) < rows else None
        if partner is not None:
            chosen[one.group_id] = _candidate(one, partner, place, rank=len(chosen))
    kept = {one.group_id for one in order[: config.capacity]}
    after = [replace(one, last_served=iteration) if one.group_id in chosen else one for one in rated]
    return list(chosen.values()), [one for one in after if one.group_id in kept]


def _priority(one: Stored, config: ReplayConfig) -> float:
    if config.order == "per_group":
        return priority(one.successes, one.tries, 1, 1.0)
    return priority(one.successes, one.tries, config.continuations, one.remaining)


def _partner(one: Stored, bank: Sequence[Stored], config: ReplayConfig, seed: int) -> Stored | None:
    """The trajectory whose tokens are the prefix: its own, or a seeded one of another problem that is long enough."""
    if config.prefix == "own":
        return one
    others = [o for o in bank if o.problem_id != one.problem_id and len(o.response_tokens) > one.prefix_length]
    if not others:
        return None
    return others[int(generator(seed, without_arm(one.group_id)).integers(len(others)))]


def _candidate(one: Stored, partner: Stored, place: str, rank: int) -> Candidate:
    """The prefix of `partner` with the length of the current prefix of `one`, as a row of `contracts.Prefixes`."""
    group, length = replay_group(one.group_id, place), one.prefix_length
    values: dict[str, Any] = {
        "parent_rollout_id": partner.rollout_id if length else None,
        "prefix_tokens": partner.response_tokens[:length],
        "prefix_logprobs": partner.response_logprobs[:length],
        "cut_reason": one.cut_reason if length else "fresh",
    }
    return Candidate(
        prefix_id=f"{partner.rollout_id or partner.group_id}@{length}>{group}",
        group_id=group,
        problem_id=one.problem_id,
        iteration=one.born,
        prompt_tokens=one.prompt_tokens,
        parent_length=len(one.response_tokens),
        score=None,
        rank=rank,
        copies=1,
        **values,
    )
