"""The rollouts that a shard samples: whole groups, balanced lengths, the same ones every time."""

from __future__ import annotations

from random import Random

import pytest

from extra_rl.errors import ConfigError
from extra_rl.sampling.rollouts import Plan
from extra_rl.sampling.shards import assign, parse_shard, positions_of, shard_names


def group(name: str, count: int, prompt: int, expected: int | None = None, prefix: int = 0) -> list[Plan]:
    return [
        Plan(f"{name}/{n}", name, "p", "fresh", [1] * prompt, prefix_tokens=(1,) * prefix, expected=expected)
        for n in range(count)
    ]


def test_the_longest_group_goes_first_to_the_shard_with_the_least_work() -> None:
    # costs at a limit of 10: a 2 x (2 + 10) = 24, b 2 x (2 + 3) = 10, c 2 x (5 + 4) = 18, d 2 + 10, e 2 x (1 + 6) = 14
    plans = [
        *group("a", 2, 2),
        *group("b", 2, 2, expected=3),
        *group("c", 2, 5, expected=4),
        *group("d", 1, 2, expected=99),
        *group("e", 2, 1, expected=2, prefix=6),
    ]
    # a -> 0 (24), c -> 1 (18), e -> 1 (32), d -> 0 (36), b -> 1 (42)
    assert assign(plans, 2, longest=10) == [[0, 1, 6], [2, 3, 4, 5, 7, 8]]
    assert assign(plans, 1, longest=10) == [list(range(9))]


def test_equal_groups_alternate_in_their_order() -> None:
    plans = [plan for name in "abcde" for plan in group(name, 1, 3)]
    assert assign(plans, 2, longest=10) == [[0, 2, 4], [1, 3]]


def test_more_shards_than_groups_leaves_some_empty() -> None:
    assert assign(group("a", 3, 2), 3, longest=10) == [[0, 1, 2], [], []]
    assert assign([], 2, longest=10) == [[], []]


def test_groups_stay_whole_where_their_plans_are_not_adjacent() -> None:
    a, b = group("a", 2, 2), group("b", 2, 2)
    assert assign([a[0], b[0], a[1], b[1]], 2, longest=10) == [[0, 2], [1, 3]]


def test_every_plan_is_in_one_shard_and_shards_are_balanced() -> None:
    random = Random(0)
    plans = [p for i in range(64) for p in group(str(i), 8, random.randint(10, 200), random.randint(1, 2000))]
    shards = assign(plans, 4, longest=1024)
    assert sorted(i for positions in shards for i in positions) == list(range(len(plans)))
    assert all(positions == sorted(positions) for positions in shards)
    assert len({(plans[i].group_id, n) for n, positions in enumerate(shards) for i in positions}) == 64
    loads = [sum(len(plans[i].prompt_tokens) + min(plans[i].expected or 0, 1024) for i in s) for s in shards]
    assert max(loads) / min(loads) < 1.02


def test_a_name_selects_the_plans_of_its_shard() -> None:
    plans = [plan for name in "abc" for plan in group(name, 1, 3)]
    assert shard_names(3) == ["0of3", "1of3", "2of3"]
    assert [positions_of(plans, name, 10) for name in shard_names(2)] == [[0, 2], [1]]
    assert positions_of(plans, "", 10) == [0, 1, 2]


@pytest.mark.parametrize("name", ["2of2", "of2", "0of0", "-1of2", "0 of 2", "0of2x", "1"])
def test_names_of_no_shard_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not the name of a shard"):
        parse_shard(name)
