"""advantage: rewards normalised over the judged rollouts of a group, the bonus after it, and the rows to train on."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.config.arms import read_preset
from extra_rl.config.section import parse_config
from extra_rl.errors import ConfigError, ContractError
from stages import advantage
from tests.stages.rows import Row, group, run_stage, tables_of

HALF = 0.5**0.5
PARENTS = "extra/s0/i0/3"


def advantages(
    generated: list[Row], regenerated: list[Row] | None = None, previous: list[Row] | None = None, **config: Any
) -> dict[str, dict[str, Any]]:
    """rollout_id -> its row of the advantage table of iteration 1."""
    tables = tables_of(generated, regenerated or []) | tables_of(previous or [], prefix="previous_")
    rows = run_stage(advantage, tables, config, iteration=1)["advantage"].to_dicts()
    for row in rows:
        if row["advantage"]:
            assert row["advantage"] == pytest.approx(row["normalised"] + row["bonus"], abs=1e-6)
    return {row["rollout_id"]: row for row in rows}


def column(rows: dict[str, dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows.values()]


def parents(verdicts: str = "ww") -> list[Row]:
    return group(verdicts, group_id=PARENTS, response_tokens=(10, 11, 12, 13, 2))


def continuations(verdicts: str, **changes: Any) -> list[Row]:
    parent = parents()[0]
    letters = {"r": "right", "w": "wrong"}
    return [parent.continued(f"extra/s0/i1/i0.3/{n}", 2, verdict=letters[v], **changes) for n, v in enumerate(verdicts)]


def novel(verdicts: str, *novelty: float) -> list[Row]:
    rows = group(verdicts)
    return [Row(**{**row.__dict__, "novelty": value}) for row, value in zip(rows, novelty, strict=True)]


def test_the_bonus_comes_after_normalisation_and_to_correct_rollouts_only() -> None:
    rows = advantages(novel("rrww", 0.4, 0.2, 0.9, 0.9), weight=0.1)
    # mean 1/2, sd sqrt(4 * 1/4 / 3) = sqrt(1/3): +-sqrt(3)/2
    normalised = [3**0.5 / 2] * 2 + [-(3**0.5) / 2] * 2
    assert column(rows, "normalised") == pytest.approx(normalised, abs=1e-5)
    assert column(rows, "bonus") == pytest.approx([0.04, 0.02, 0.0, 0.0], abs=1e-7)
    sums = [n + b for n, b in zip(normalised, [0.04, 0.02, 0.0, 0.0], strict=True)]
    assert column(rows, "advantage") == pytest.approx(sums, abs=1e-5)


def test_in_an_all_correct_group_the_bonus_is_the_only_signal() -> None:
    rows = advantages(novel("rr", 0.4, 0.0), weight=0.5)
    assert column(rows, "normalised") == [0.0, 0.0]
    assert column(rows, "advantage") == pytest.approx([0.2, 0.0])
    assert column(rows, "trained") == ["trained", "no_signal"]
    assert column(rows, "group_type") == ["all_correct"] * 2


def test_before_normalisation_the_bonus_changes_the_whole_group() -> None:
    rows = advantages(novel("rr", 1.0, 0.0), weight=1.0, placement="before_normalisation")
    # rewards 2 and 1: mean 3/2, sd sqrt(1/2)
    assert column(rows, "advantage") == pytest.approx([HALF, -HALF], abs=1e-5)


def test_options_of_normalisation_and_bonus_are_passed_on() -> None:
    ddof = advantages(group("rw"), std_ddof=0)
    assert column(ddof, "normalised") == pytest.approx([1.0, -1.0], abs=1e-5)
    mean_only = advantages(group("rw"), divide_by_std=False)
    assert column(mean_only, "normalised") == [0.5, -0.5]
    coarse = advantages(group("rw"), eps=HALF)
    assert column(coarse, "normalised") == pytest.approx([HALF / 2, -HALF / 2])
    centred = advantages(novel("rrw", 0.3, 0.1, 0.9), weight=1.0, centring="among_correct")
    assert column(centred, "bonus") == pytest.approx([0.1, -0.1, 0.0], abs=1e-6)
    scaled = advantages(novel("rrw", 0.3, 0.1, 0.9), weight=1.0, scale="group_max")
    assert column(scaled, "bonus") == pytest.approx([1.0, 1 / 3, 0.0], abs=1e-6)


def test_the_bonus_of_nearly_equal_novelty_is_bounded_but_not_in_the_published_presets() -> None:
    """Divided by the standard deviation of three nearly equal values alone, the bonus is 120 times its weight."""
    rows = novel("rrr", 0.0100, 0.0101, 0.0102)
    bounded = column(advantages(rows, weight=0.1, scale="batch_std"), "bonus")
    assert bounded == pytest.approx([0.2 * 100 / 101, 0.2, 0.2 * 102 / 101], rel=1e-4)
    for preset in ("prototype", "surprisal"):
        published = read_preset(preset)["advantage"]
        assert (published["scale"], published["weight"]) == ("batch_std", 0.1)
        assert min(column(advantages(rows, **published), "bonus")) > 12


def test_groups_are_normalised_separately_in_any_order_of_rows() -> None:
    first, second = group("rw", group_id="extra/s0/i1/0"), group("rrrw", group_id="extra/s0/i1/1", problem_id="p1")
    interleaved = [second[0], first[0], second[1], first[1], second[2], second[3]]
    rows = advantages(interleaved)
    assert rows[first[0].rollout_id]["advantage"] == pytest.approx(HALF, abs=1e-5)
    # mean 3/4, sd 1/2
    assert rows[second[0].rollout_id]["advantage"] == pytest.approx(0.5, abs=1e-5)
    assert rows[second[3].rollout_id]["advantage"] == pytest.approx(-1.5, abs=1e-5)
    assert list(rows) == [row.rollout_id for row in interleaved]


def test_a_rollout_that_could_not_be_judged_is_excluded_from_its_group() -> None:
    rows = advantages(group("rwe"))
    assert column(rows, "normalised") == pytest.approx([HALF, -HALF, 0.0], abs=1e-5)
    assert column(rows, "trained") == ["trained", "trained", "excluded"]
    assert column(rows, "reward") == [1.0, 0.0, None]


def test_a_group_with_equal_rewards_stays_without_a_signal() -> None:
    rows = advantages(group("wwww"))
    assert column(rows, "trained") == ["no_signal"] * 4
    assert column(rows, "group_type") == ["all_incorrect"] * 4


def test_continuations_in_a_separate_group_are_not_compared_with_their_parents() -> None:
    rows = advantages(continuations("rw"), previous=parents(), group="own")
    assert column(rows, "advantage") == pytest.approx([HALF, -HALF], abs=1e-5)
    assert set(column(rows, "advantage_group")) == {f"{PARENTS}/own"}
    assert column(rows, "carried") == [False, False]


def test_a_joined_group_is_completed_by_the_parents_of_the_previous_iteration() -> None:
    previous = parents("ww") + group("ww", group_id="extra/s0/i0/9", problem_id="p9")
    rows = advantages(continuations("rw"), previous=previous, group="joined")
    # rewards 1, 0 and the parents' 0, 0: mean 1/4, sd 1/2
    assert column(rows, "advantage") == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert column(rows, "carried") == [False, False, True, True]
    assert list(rows)[2:] == [f"{PARENTS}/0", f"{PARENTS}/1"]
    assert set(column(rows, "advantage_group")) == {PARENTS}


def test_continuations_of_the_same_iteration_join_the_rows_of_their_parents() -> None:
    rows = advantages(parents("ww"), continuations("rw"), group="joined")
    assert column(rows, "advantage") == pytest.approx([-0.5, -0.5, 1.5, -0.5], abs=1e-5)
    assert column(rows, "carried") == [False] * 4


def test_continuations_without_parents_form_a_separate_group() -> None:
    rows = advantages(continuations("rw"), previous=group("ww", group_id="extra/s0/i0/9"), group="joined")
    assert set(column(rows, "advantage_group")) == {f"{PARENTS}/own"}
    assert column(rows, "advantage") == pytest.approx([HALF, -HALF], abs=1e-5)


def test_a_continuation_of_the_previous_iteration_is_not_a_parent() -> None:
    previous = [*parents("w"), parents()[1].continued(f"{PARENTS}/old", 2)]
    rows = advantages(continuations("rw"), previous=previous, group="joined")
    assert [name for name, row in rows.items() if row["carried"]] == [f"{PARENTS}/0"]


def test_unrescued_continuations_are_left_out_unless_kept() -> None:
    fresh = group("rw", group_id="extra/s0/i1/0")
    for kind in ("own", "joined"):
        rows = advantages([*fresh, *continuations("ww")], previous=parents(), group=kind, keep_unrescued=False)
        assert column(rows, "trained") == ["trained", "trained", "unrescued", "unrescued"], kind
        assert column(rows, "advantage")[2:] == [0.0, 0.0]
        assert not any(column(rows, "carried"))
    kept = advantages([*fresh, *continuations("ww")], previous=parents(), group="joined", keep_unrescued=True)
    assert column(kept, "trained") == ["trained", "trained", *["no_signal"] * 4]
    assert column(kept, "carried") == [False] * 4 + [True] * 2


def test_all_rows_of_a_rescued_problem_are_trained() -> None:
    rows = advantages(continuations("wr"), previous=parents(), group="joined", keep_unrescued=False)
    assert column(rows, "trained") == ["trained"] * 4


def test_positive_only_removes_negative_advantages_of_continuations_only() -> None:
    rows = advantages(
        [*group("rw", group_id="extra/s0/i1/0"), *continuations("rw")],
        previous=parents(),
        group="own",
        guided_advantage="positive_only",
    )
    assert column(rows, "advantage") == pytest.approx([HALF, -HALF, HALF, 0.0], abs=1e-5)
    assert column(rows, "normalised")[3] == pytest.approx(-HALF, abs=1e-5)
    assert column(rows, "trained") == ["trained", "trained", "trained", "no_signal"]


@pytest.mark.parametrize(("prefix_loss", "start"), [("masked", 2), ("trained", 0)])
def test_prefix_loss_decides_where_the_loss_of_a_continuation_starts(prefix_loss: str, start: int) -> None:
    rows = advantages(
        [*group("rw", group_id="extra/s0/i1/0"), *continuations("rw")], previous=parents(), prefix_loss=prefix_loss
    )
    assert column(rows, "loss_start") == [0, 0, start, start]


def test_replays_are_a_separate_group_without_loss_on_the_prefix_and_signed() -> None:
    """By hand: two of four correct have the mean 1/2 and the deviation sqrt(1/3); the parents join no replay."""
    settings: dict[str, Any] = {"group": "joined", "prefix_loss": "trained", "guided_advantage": "positive_only"}
    replays = [
        parents()[0].continued(f"extra/s0/i1/i0.r0.5/{n}", 2, verdict=verdict, group_id="extra/s0/i0/r0.5")
        for n, verdict in enumerate(("right", "wrong", "right", "wrong"))
    ]
    rows = advantages([*group("rw", group_id="extra/s0/i1/0"), *replays], previous=parents(), **settings)
    assert not any(column(rows, "carried"))
    assert column(rows, "advantage")[2:] == pytest.approx([0.8660254, -0.8660254] * 2, abs=1e-5)
    assert column(rows, "loss_start") == [0, 0, 2, 2, 2, 2]
    assert set(column(rows, "advantage_group")[2:]) == {"extra/s0/i0/r0.5/own"}
    only = advantages(replays, previous=parents(), **settings, replay_advantage="positive_only")
    assert column(only, "advantage") == pytest.approx([0.8660254, 0.0] * 2, abs=1e-5)
    assert column(only, "trained") == ["trained", "no_signal"] * 2


def test_nothing_sampled_gives_an_empty_table() -> None:
    assert advantages([]) == {}


def test_the_bonus_does_not_depend_on_the_row_order_of_the_novelty_table() -> None:
    tables = tables_of(novel("rr", 0.4, 0.1)) | tables_of([], prefix="previous_")
    shuffled = tables | {"novelty": tables["novelty"].reverse()}
    made = [run_stage(advantage, t, {"weight": 1.0})["advantage"] for t in (tables, shuffled)]
    assert made[0].equals(made[1])


@pytest.mark.parametrize("where", ["regenerated", "previous"])
def test_a_continuation_of_another_problem_is_refused(where: str) -> None:
    """The rollouts of the group are in two tables, so the contract of a single table cannot detect it."""
    foreign = continuations("rw", problem_id="another")
    tables = {"regenerated": (parents("ww"), foreign, None), "previous": (foreign, None, parents("ww"))}
    with pytest.raises(ContractError, match=f"group {PARENTS} .* 2 problems"):
        advantages(*tables[where], group="joined")


def test_a_group_with_real_valued_rewards_has_a_signal_without_a_correct_rollout() -> None:
    """By hand: 0.1 and 0.3 have the mean 0.2 and the deviation sqrt(0.02), so both advantages are 0.1 / sqrt(0.02)."""
    some = [Row(f"a{n}", group_id="a", verdict="wrong", reward=reward) for n, reward in enumerate((0.1, 0.3))]
    same = [Row(f"b{n}", group_id="b", problem_id="p1", verdict="right", reward=0.7) for n in range(2)]
    solved = [Row(f"c{n}", group_id="c", problem_id="p2", verdict="right", reward=r) for n, r in enumerate((0.9, 0.5))]
    rows = advantages([*some, *same, *solved], eps=1e-12)
    assert column(rows, "group_type") == ["all_incorrect"] * 2 + ["all_correct"] * 4
    assert column(rows, "advantage") == pytest.approx([-0.7071068, 0.7071068, 0, 0, 0.7071068, -0.7071068], abs=1e-6)
    assert column(rows, "trained") == ["trained"] * 2 + ["no_signal"] * 2 + ["trained"] * 2


def test_maxrl_in_own_and_joined_groups() -> None:
    """Fresh: 1 of 4, (1 - 1/4) / (1/4) = 3 and -1. Continuations: own 1 of 2, 1 and -1; joined 1 of 4, 3 and -1."""
    fresh = group("rwwwe", group_id="extra/s0/i1/0")
    for kind, expected in (("own", [1, -1]), ("joined", [3, -1, -1, -1])):
        rows = advantages([*fresh, *continuations("rw")], previous=parents(), group=kind, normalise="mean")
        assert column(rows, "normalised")[:5] == [3, -1, -1, -1, 0]
        assert column(rows, "normalised")[5:] == expected
        assert column(rows, "trained")[4] == "excluded"


def test_pass_at_k_adds_the_bonus_afterwards() -> None:
    """2 of 4 and k = 2: 1 / sqrt(5) and -1 / sqrt(5), see tests/algorithms/test_rare_success.py."""
    rows = advantages(novel("rrww", 0.4, 0.0, 0.9, 0.9), weight=0.5, normalise="pass_at_k", k=2)
    fifth = 0.2**0.5
    assert column(rows, "advantage") == pytest.approx([fifth + 0.2, fifth, -fifth, -fifth], abs=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"divide_by_std": False, "normalise": "mean"}, "divide_by_std: false is another form"),
        ({"normalise": "pass_at_k"}, "pass_at_k needs k"),
        ({"normalise": "mean", "k": 4}, "k: 4 needs normalise: pass_at_k"),
        ({"k": 4}, "k: 4 needs normalise: pass_at_k"),
        (
            {"normalise": "pass_at_k", "k": 2, "weight": 0.1, "placement": "before_normalisation"},
            "use after_normalisation",
        ),
    ],
)
def test_contradictory_forms_are_refused_once(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_config(advantage.Config, section, "advantage")
    assert str(error.value).count("\n") == 1
    assert parse_config(advantage.Config, {"divide_by_std": False, "normalise": "mean_only"}, "advantage")


def test_a_large_group_is_normalised_as_a_whole_and_trained_in_part() -> None:
    """1 correct of 8: mean 1/8, so 7/8 and -1/8 for all of them; of four the correct and the first three incorrect."""
    rows = advantages(group("wwwwwwwr"), normalise="mean_only", keep_per_group=4)
    assert column(rows, "advantage") == pytest.approx([-0.125] * 7 + [0.875])
    assert column(rows, "trained") == ["trained"] * 3 + ["left_out"] * 4 + ["trained"]
    small = advantages([*group("rwe"), *continuations("rwrwrw")], previous=parents(), keep_per_group=2)
    assert column(small, "trained") == ["trained", "trained", "excluded", *["trained"] * 6]
