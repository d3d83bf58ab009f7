"""advantage: separate advantages of the tokens of a rollout, by entropy (RL-ZVP) and by segment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from extra_rl.config.section import parse_config
from extra_rl.errors import ConfigError
from extra_rl.tables.signal import useful_groups
from stages import advantage
from tests.stages.rows import Row, group, run_stage, tables_of
from tests.stages.test_advantage import HALF, PARENTS, column, continuations, novel, parents

ZVP: dict[str, Any] = {"zero_variance_weight": 0.1}
SEGMENT: dict[str, Any] = {"credit": "segment", "prefix_loss": "trained"}


def table(
    generated: list[Row], regenerated: list[Row] | None = None, previous: list[Row] | None = None, **config: Any
) -> pl.DataFrame:
    tables = tables_of(generated, regenerated or []) | tables_of(previous or [], prefix="previous_")
    return run_stage(advantage, tables, config, iteration=1)["advantage"]


def advantages(*args: Any, **config: Any) -> dict[str, dict[str, Any]]:
    return {row["rollout_id"]: row for row in table(*args, **config).to_dicts()}


def uncertain(rows: list[Row], *entropies: float) -> list[Row]:
    return [replace(row, entropies=entropies) for row in rows]


def test_groups_of_equal_rewards_get_a_signal_by_entropy() -> None:
    """Entropies 0.5, 2, 0 and alpha 0.1. Correct: 0.05, 0.2, 0; incorrect: -0.1 (2 - H) = -0.15, 0, -0.2."""
    right = uncertain(group("rr", group_id="extra/s0/i1/0"), 0.5, 2.0, 0.0)
    wrong = uncertain(group("ww", group_id="extra/s0/i1/1", problem_id="p1"), 0.5, 2.0, 0.0)
    mixed = uncertain(group("rw", group_id="extra/s0/i1/2", problem_id="p2"), 0.5, 2.0, 0.0)
    rows = advantages([*right, *wrong, *mixed], **ZVP)
    lists = column(rows, "token_advantages")
    assert lists[0] == lists[1] == pytest.approx([0.05, 0.2, 0.0], abs=1e-7)
    assert lists[2] == lists[3] == pytest.approx([-0.15, 0.0, -0.2], abs=1e-7)
    assert lists[4:] == [None, None]
    assert column(rows, "advantage") == pytest.approx(
        [0.25 / 3] * 2 + [-0.35 / 3] * 2 + [HALF, -HALF], abs=1e-5
    )  # the mean over the tokens
    assert column(rows, "trained") == ["trained"] * 6
    off = advantages([*right, *wrong, *mixed])
    assert column(off, "token_advantages") == [None] * 6
    assert column(off, "trained") == ["no_signal"] * 4 + ["trained"] * 2


def test_the_novelty_bonus_is_added_to_the_signal_of_each_token() -> None:
    rows = advantages(uncertain(novel("rr", 0.4, 0.0), 1.0, 0.0, 0.0), weight=0.5, **ZVP)
    assert column(rows, "token_advantages")[0] == pytest.approx([0.3, 0.2, 0.2], abs=1e-6)
    assert column(rows, "token_advantages")[1] == pytest.approx([0.1, 0.0, 0.0], abs=1e-6)
    assert column(rows, "bonus") == pytest.approx([0.2, 0.0], abs=1e-6)
    assert column(rows, "normalised") == pytest.approx([0.1 / 3] * 2, abs=1e-6)


def test_excluded_single_and_partly_credited_rollouts_get_no_entropy_signal() -> None:
    unjudged, single = group("rre", group_id="a"), group("re", group_id="b", problem_id="p1")
    same = [
        Row(f"c{n}", group_id="c", problem_id="p2", verdict=v, reward=0.5) for n, v in enumerate(("right", "wrong"))
    ]
    rows = advantages([*unjudged, *single, *same], **ZVP)
    lists = column(rows, "token_advantages")
    assert [found is not None for found in lists] == [True, True, False, False, False, False, False]
    assert column(rows, "trained") == ["trained", "trained", "excluded", "no_signal", "excluded", *["no_signal"] * 2]


def test_continuations_get_their_signal_from_the_first_token_with_loss() -> None:
    """Masked prefix of 2 tokens: the maximum is that of the sampled tokens, 1: 0, 0, then -0.1 (1 - H)."""
    made = uncertain(continuations("ww"), 9.0, 9.0, 0.0, 1.0, 0.5)
    rows = advantages(made, previous=parents(), **ZVP)
    for found in column(rows, "token_advantages"):
        assert found == pytest.approx([0, 0, -0.1, 0, -0.05], abs=1e-7)
    assert column(rows, "advantage") == pytest.approx([-0.05] * 2, abs=1e-7)
    positive = advantages(made, previous=parents(), guided_advantage="positive_only", **ZVP)
    assert column(positive, "token_advantages") == [[0.0] * 5] * 2
    assert column(positive, "trained") == ["no_signal"] * 2


def test_parents_of_a_joined_group_had_their_entropy_signal_before() -> None:
    rows = advantages(continuations("ww"), previous=parents(), group="joined", **ZVP)
    assert column(rows, "carried") == [False, False, True, True]
    assert [found is not None for found in column(rows, "token_advantages")] == [True, True, False, False]
    left_out = advantages(continuations("ww"), previous=parents(), group="joined", keep_unrescued=False, **ZVP)
    assert column(left_out, "trained") == ["unrescued"] * 2
    assert column(left_out, "token_advantages") == [None, None]


def test_missing_entropies_are_named() -> None:
    tables = tables_of(group("ww")) | tables_of([], prefix="previous_")
    unscored = tables["score_entropy_generate"].with_columns(
        policy_logprobs=pl.lit(None, pl.List(pl.Float32)),
        entropies=pl.lit(None, pl.List(pl.Float32)),
        computed_tokens=pl.lit(0, pl.Int64),
    )
    with pytest.raises(ConfigError, match=r"2 have none, first extra/s0/i0/0/0\. Run score_entropy on all"):
        run_stage(advantage, tables | {"score_entropy_generate": unscored}, ZVP)
    without = {name: found for name, found in tables.items() if name != "score_entropy_regenerate"}
    with pytest.raises(ConfigError, match="pass the paths of both"):
        run_stage(advantage, without, ZVP)


def test_credit_by_segment_in_the_stage() -> None:
    """Parents wrong, V(prompt) = 0; continuations r, w of one prefix of 2 tokens: V(prefix) = 1/2.

    Prefix tokens 1/2 each; sampled tokens 1 - 0 and 0 - 1. Means over 5 tokens: (1 + 3) / 5, (1 - 3) / 5.
    """
    fresh = group("rw", group_id="extra/s0/i1/0", problem_id="p9")
    rows = advantages([*fresh, *continuations("rw")], previous=parents(), **SEGMENT)
    assert column(rows, "token_advantages") == [None, None, [0.5, 0.5, 1, 1, 1], [0.5, 0.5, -1, -1, -1]]
    assert column(rows, "advantage") == pytest.approx([HALF, -HALF, 0.8, -0.4], abs=1e-5)
    assert column(rows, "advantage_group")[2:] == [f"{PARENTS}/segments"] * 2
    assert not any(column(rows, "carried"))
    masked = advantages(continuations("rw"), previous=parents(), credit="segment")
    assert column(masked, "token_advantages") == [[0, 0, 1, 1, 1], [0, 0, -1, -1, -1]]
    assert column(masked, "advantage") == pytest.approx([1.0, -1.0])


def test_segments_of_the_same_iteration_and_of_an_unknown_prompt() -> None:
    solved = advantages(parents("rw"), continuations("rr"), **SEGMENT)
    # V(prompt) = 1/2, V(prefix) = 1: the prefix has 1/2, and both continuations did as well as the other.
    assert column(solved, "token_advantages")[2:] == [[0.5, 0.5, 0, 0, 0]] * 2
    assert column(solved, "trained") == ["trained"] * 4
    assert useful_groups(table(parents("rr"), continuations("rr"), **SEGMENT)) == 0
    unknown = advantages(continuations("rr"), **SEGMENT)
    assert column(unknown, "token_advantages") == [[0.0] * 5] * 2
    assert column(unknown, "trained") == ["no_signal"] * 2


def test_the_bonus_of_a_continuation_belongs_to_its_sampled_tokens() -> None:
    made = [replace(row, novelty=0.6) for row in continuations("rr")]
    rows = advantages(made, previous=parents(), weight=0.5, **SEGMENT)
    for found in column(rows, "token_advantages"):
        assert found == pytest.approx([1, 1, 0.3, 0.3, 0.3])
    assert column(rows, "bonus") == pytest.approx([0.18] * 2)


def test_a_prefix_that_lowers_the_chance_has_a_negative_advantage_unless_only_positive_ones_count() -> None:
    # Parents r, w: V(prompt) = 1/2; continuations w, w: V(prefix) = 0, so -1/2 and 0.
    rows = advantages(parents("rw"), continuations("ww"), **SEGMENT)
    assert column(rows, "token_advantages")[2:] == [[-0.5, -0.5, 0, 0, 0]] * 2
    positive = advantages(parents("rw"), continuations("ww"), guided_advantage="positive_only", **SEGMENT)
    assert column(positive, "token_advantages")[2:] == [[0.0] * 5] * 2


def test_segments_need_separate_groups() -> None:
    with pytest.raises(ConfigError, match="credit: segment compares continuations of one prefix"):
        parse_config(advantage.Config, {"credit": "segment", "group": "joined"}, "advantage")


def test_useful_groups_have_rewards_that_differ() -> None:
    equal, mixed = group("rr", group_id="a"), group("rw", group_id="b", problem_id="p1")
    for config in ({}, ZVP, {"weight": 0.1}):
        assert useful_groups(table([*equal, *mixed], **config)) == 1
    assert useful_groups(table(continuations("rr"), previous=parents(), **SEGMENT)) == 1


def replayed(verdicts: str, number: int, prefix: int = 2) -> list[Row]:
    letters = {"r": "right", "w": "wrong", "e": "error"}
    return [
        parents()[0].continued(
            f"extra/s0/i1/i0.r0.{number}/{n}", prefix, verdict=letters[letter], group_id=f"extra/s0/i0/r0.{number}"
        )
        for n, letter in enumerate(verdicts)
    ]


def test_the_prefix_of_a_replay_is_reinforced_by_its_share_of_correct_continuations() -> None:
    """One of three judged is correct: the prefix has 2 x 1/3. Rewards 1, 0, 0: mean 1/3, deviation sqrt(1/3)."""
    rows = advantages(replayed("rwew", 0), replay_prefix_weight=2.0)
    high, low = (2 / 3) / (1 / 3) ** 0.5, -(1 / 3) / (1 / 3) ** 0.5
    lists = column(rows, "token_advantages")
    tokens = len(parents()[0].response_tokens)
    assert lists[0] == pytest.approx([2 / 3] * 2 + [high] * (tokens - 2), abs=1e-5)
    assert lists[1] == lists[3] == pytest.approx([2 / 3] * 2 + [low] * (tokens - 2), abs=1e-5)
    assert lists[2] is None
    assert column(rows, "loss_start") == [0, 0, 2, 0]
    assert column(rows, "trained") == ["trained", "trained", "excluded", "trained"]


def test_groups_of_replays_with_equal_rewards_reinforce_no_prefix_nor_do_other_continuations() -> None:
    rows = advantages([*replayed("rr", 0), *replayed("ww", 1), *replayed("rw", 2, prefix=0)], replay_prefix_weight=1.0)
    assert column(rows, "token_advantages") == [None] * 6
    assert column(rows, "loss_start") == [2, 2, 2, 2, 0, 0]
    other = advantages(continuations("rw"), previous=parents(), replay_prefix_weight=1.0)
    assert set(column(other, "token_advantages")) == {None}
