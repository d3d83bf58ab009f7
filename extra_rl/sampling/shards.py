"""Shards of a sampling call: which rollouts each samples, and what a shard is called (`0of4`).

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
    """`0of4`, `1of4`, ..."""
    return [f"{index}of{count}" for index in range(count)]


def parse_shard(name: str) -> tuple[int, int]:
    """Number of a shard, from 0, and how many there are; ConfigError for another name."""
    found = re.fullmatch(r"(\d{1,6})of(\d{1,6})", name)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(f"{name!r} names no shard: they are called 0of4, 1of4, 2of4, 3of4.")
    return int(found[1]), int(found[2])


def positions_of(plans: Sequence[Plan], shard: str, longest: int) -> list[int]:
    """Indices of the plans that a shard samples, in their order; all of them where `shard` is empty.

    longest: response limit in tokens. ConfigError for a name that is none of a shard.
    """
    if not shard:
        return list(range(len(plans)))
    index, count = parse_shard(shard)
    return assign(plans, count, longest)[index]


def assign(plans: Sequence[Plan], count: int, longest: int) -> list[list[int]]:
    """Indices of the plans of every shard: together all of them, each once, in their order within a shard.

    Groups stay whole: their rollouts share a prompt, which is read once. The longest group goes first, to the shard
    that has least to do (longest processing time first: at most 4/3 of the best balance); equal ones in their order.
    A rollout costs its context and its response: a continuation's is as long as its parent's, a fresh one's the limit.
    """
    groups: dict[str, list[int]] = {}
    for position, plan in enumerate(plans):
        groups.setdefault(plan.group_id, []).append(position)
    members = list(groups.values())
    parts = shares([sum(_tokens(plans[i], longest) for i in positions) for positions in members], count)
    return [sorted(position for group in part for position in members[group]) for part in parts]


def _tokens(plan: Plan, longest: int) -> int:
    """Prompt and whole response, of which a prefix is a part."""
    response = longest if plan.expected is None else min(plan.expected, longest)
    return len(plan.prompt_tokens) + max(response, len(plan.prefix_tokens))
