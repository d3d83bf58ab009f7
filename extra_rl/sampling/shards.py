"""Shards of a sampling call: which rollouts each samples, and the names of shards (`0of4`).

Source: our decision (docs/decisions/0009-shards.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError
from extra_rl.scoring.batches import shares

if TYPE_CHECKING:
    from extra_rl.sampling.rollouts import Plan


def shard_names(count: int) -> list[str]:
    """Return `0of4`, `1of4`, ..."""
    return [f"{index}of{count}" for index in range(count)]


def parse_shard(name: str) -> tuple[int, int]:
    """Return the index of a shard, from 0, and the number of shards; ConfigError for any other name."""
    found = re.fullmatch(r"(\d{1,6})of(\d{1,6})", name)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(f"{name!r} is not the name of a shard: four shards are named 0of4, 1of4, 2of4, 3of4.")
    return int(found[1]), int(found[2])


def positions_of(plans: Sequence[Plan], shard: str, longest: int) -> list[int]:
    """Return the indices of the plans that a shard samples, in their order; all of them where `shard` is empty.

    longest: response limit in tokens. Raises ConfigError for a name that is not a shard's.
    """
    if not shard:
        return list(range(len(plans)))
    index, count = parse_shard(shard)
    return assign(plans, count, longest)[index]


def assign(plans: Sequence[Plan], count: int, longest: int) -> list[list[int]]:
    """Return the indices of the plans of every shard: each plan in one shard, in their order within a shard.

    Groups stay whole: their rollouts share a prompt, which is read once. Each group goes to the shard with the least
    work so far, largest groups first (longest processing time first: at most 4/3 of the best maximum). A rollout's work
    is its context and its response; a continuation's response is estimated by its parent's, a fresh one's by the limit.
    """
    groups: dict[str, list[int]] = {}
    for position, plan in enumerate(plans):
        groups.setdefault(plan.group_id, []).append(position)
    members = list(groups.values())
    parts = shares([sum(_tokens(plans[i], longest) for i in positions) for positions in members], count)
    return [sorted(position for group in part for position in members[group]) for part in parts]


def _tokens(plan: Plan, longest: int) -> int:
    """Estimated tokens of prompt and whole response, which includes the prefix."""
    response = longest if plan.expected is None else min(plan.expected, longest)
    return len(plan.prompt_tokens) + max(response, len(plan.prefix_tokens))
