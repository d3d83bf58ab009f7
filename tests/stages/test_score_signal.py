"""score_entropy.rows: signal: which rollouts are scored, when, and under which policy."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import ConfigError
from extra_rl.models.policy import load_policy, save_policy
from stages import advantage, score_entropy
from tests.conftest import POLICY
from tests.stages.rows import Row, group, run_stage, tables_of

MANIFEST = POLICY / "manifest.json"
PLACE, BEFORE = "extra/s0/i1", "extra/s0/i0"
HARD = f"{BEFORE}/4"


def score(
    rollouts: list[Row],
    former: list[Row] | None = None,
    known: pl.DataFrame | None = None,
    rows: str = "signal",
    **derived: bool,
) -> pl.DataFrame:
    """The scores of rollouts. former: rollouts that contain the parents; known: their scores, by default none."""
    found = tables_of(rollouts)
    tables = {"rollouts": found["generate"], "verify": found["verify_generate"]}
    if former is not None:
        before = tables_of(former)
        tables |= {"parents": before["generate"], "parents_verify": before["verify_generate"]}
        tables["parents_scores"] = before["score_entropy_generate"].clear() if known is None else known
    paths = {"policy": MANIFEST, "parents_policy": MANIFEST}
    return run_stage(score_entropy, tables, {"rows": rows}, derived=derived, paths=paths)["score_entropy"]


def scored(table: pl.DataFrame) -> list[str]:
    return table.filter(pl.col("policy_logprobs").is_not_null())["rollout_id"].to_list()


def batch() -> list[Row]:
    """All wrong, mixed with one that could not be judged, all right."""
    wrong, right = group("ww", group_id=f"{PLACE}/0"), group("rr", group_id=f"{PLACE}/2")
    mixed = group("rwe", group_id=f"{PLACE}/1")
    longer = Row(**{**mixed[1].__dict__, "response_tokens": (10, 11, 12, 2)})
    return [*wrong, mixed[0], longer, mixed[2], *right]


def family(*verdicts: str) -> tuple[list[Row], list[Row]]:
    """A hard group of the iteration before, and continuations of its first rollout."""
    parents = group("ww", group_id=HARD)
    made = enumerate(verdicts)
    return parents, [parents[0].continued(f"{PLACE}/i0.4/{n}", 1, verdict=verdict) for n, verdict in made]


def test_only_groups_whose_judged_rewards_differ_are_scored() -> None:
    table = score(batch())
    assert table["rollout_id"].to_list() == [row.rollout_id for row in batch()]
    assert scored(table) == [f"{PLACE}/1/0", f"{PLACE}/1/1"]
    assert table.filter(pl.col("computed_tokens") > 0)["rollout_id"].to_list() == scored(table)
    assert table["computed_tokens"].sum() == 2 + 3 + 2  # the prompt once; 10 and 11 begin both responses
    assert table["entropies"].is_null().to_list() == table["policy_logprobs"].is_null().to_list()
    whole = score(batch(), rows="all")
    assert len(scored(whole)) == 7
    same = whole.filter(pl.col("rollout_id").is_in(scored(table)))["policy_logprobs"]
    for left, right in zip(table["policy_logprobs"].drop_nulls(), same, strict=True):
        assert left.to_list() == pytest.approx(right.to_list(), abs=1e-5)


def test_a_bonus_is_a_signal_where_all_are_correct() -> None:
    assert scored(score(batch(), bonus=True)) == [f"{PLACE}/1/0", f"{PLACE}/1/1", f"{PLACE}/2/0", f"{PLACE}/2/1"]


def test_groups_of_equal_rewards_are_scored_where_their_entropy_is_a_signal() -> None:
    every = [row.rollout_id for row in batch() if row.verdict != "error"]
    assert scored(score(batch(), zero_variance=True)) == every
    parents, lost = family("wrong", "wrong")
    names = [row.rollout_id for row in lost]
    assert scored(score(lost, parents, joined=True, zero_variance=True)) == names  # parents had theirs before


def test_credit_by_segment_scores_continuations_whose_prefix_changes_the_value() -> None:
    """All correct after incorrect parents: the prefix has a signal, in a group of equal rewards, and no parent has."""
    parents, solved = family("right", "right")
    names = [row.rollout_id for row in solved]
    assert scored(score(solved, parents, segments=True)) == names
    assert scored(score(solved, parents)) == []
    parents, lost = family("wrong", "wrong")
    assert scored(score(lost, parents, segments=True)) == []


def test_other_rewards_than_0_and_1_may_differ_without_a_right_one() -> None:
    rows = [*group("w", group_id=f"{PLACE}/0"), Row(f"{PLACE}/0/1", group_id=f"{PLACE}/0", reward=-1.0)]
    assert len(scored(score(rows))) == 2


def test_without_a_signal_no_model_is_loaded() -> None:
    tables = tables_of(group("ww", group_id=f"{PLACE}/0"))
    given = {"rollouts": tables["generate"], "verify": tables["verify_generate"]}
    table = run_stage(score_entropy, given, {"rows": "signal"}, paths={"policy": Path("nowhere")})["score_entropy"]
    assert (len(table), scored(table)) == (2, [])


def test_missing_verdicts_are_refused() -> None:
    tables = tables_of(batch())
    with pytest.raises(ConfigError, match="reads the verdicts of the rollouts"):
        run_stage(score_entropy, {"rollouts": tables["generate"]}, {"rows": "signal"}, paths={"policy": MANIFEST})


def test_parents_are_scored_with_the_continuations_that_rescue_them() -> None:
    parents, rescued = family("right", "wrong")
    table = score(rescued, parents, joined=True)
    assert scored(table) == [f"{PLACE}/i0.4/0", f"{PLACE}/i0.4/1", f"{HARD}/0", f"{HARD}/1"]
    assert scored(score(rescued, parents)) == [f"{PLACE}/i0.4/0", f"{PLACE}/i0.4/1"]  # a group of their own
    parents, solved = family("right", "right")
    assert len(scored(score(solved, parents, joined=True))) == 4
    assert scored(score(solved, parents)) == []
    parents, lost = family("wrong", "wrong")
    assert scored(score(lost, parents, joined=True)) == []
    known = score(parents, rows="all")
    assert scored(score(rescued, parents, known, joined=True)) == [f"{PLACE}/i0.4/0", f"{PLACE}/i0.4/1"]


def test_parents_are_scored_under_the_policy_that_sampled_them(tmp_path: Path) -> None:
    policy = load_policy(MANIFEST)
    for parameter in policy.model.parameters():
        parameter.data.mul_(1.05)
    former = tmp_path / "policy" / "manifest.json"
    save_policy(former, policy.model, policy.tokenizer, {})
    parents, rescued = family("right")
    now, before = tables_of(rescued), tables_of(parents)
    tables = {"rollouts": now["generate"], "verify": now["verify_generate"]}
    tables |= {"parents": before["generate"], "parents_verify": before["verify_generate"]}
    paths = {"policy": MANIFEST, "parents_policy": former}
    made = run_stage(score_entropy, tables, {"rows": "signal"}, derived={"joined": True}, paths=paths)
    table = made["score_entropy"]
    whole = {"rollouts": before["generate"]}
    for path, alike in ((former, True), (MANIFEST, False)):
        alone = run_stage(score_entropy, whole, paths={"policy": path})["score_entropy"]["policy_logprobs"]
        for found, expected in zip(table["policy_logprobs"][-2:], alone, strict=True):
            assert (found.to_list() == pytest.approx(expected.to_list(), abs=1e-5)) is alike


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_every_row_that_advantage_trains_is_scored(joined: bool, weight: float) -> None:
    """Compare the choice, which is made before advantages are known, with the advantages."""
    parents, rescued = family("right", "wrong")
    other = group("ww", group_id=f"{BEFORE}/5")
    lost = [other[0].continued(f"{PLACE}/i0.5/{n}", 1) for n in range(2)]
    rows, former = [*batch(), *rescued, *lost], [*parents, *other]
    rows = [Row(**{**row.__dict__, "novelty": 0.5}) for row in rows]
    found = tables_of(rows) | tables_of(former, prefix="previous_")
    section = {"group": "joined" if joined else "own", "weight": weight}
    trained = run_stage(advantage, found, section, iteration=1)["advantage"].filter(trained="trained")
    table = score(rows, former, joined=joined, bonus=weight > 0)
    assert set(trained["rollout_id"]) == set(scored(table))
