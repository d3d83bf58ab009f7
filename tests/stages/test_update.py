"""update: the tokens that the loss counts, its denominators, and mini-batches that take no step.

Old logprobs are the policy's own, so every ratio is 1 and the loss before the first step is known by hand:
-(sum of advantage x loss tokens) / denominator.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from extra_rl.errors import InputError
from extra_rl.models.policy import load_model, read_manifest
from stages import score_entropy
from tests.stages.rows import Row, run_stage, tables_of
from tests.stages.updates import EQUAL, INITIAL, RIGHT, WRONG, advantages, one_step, tables, updated


def test_the_loss_is_a_token_mean_over_the_whole_batch_rows_without_signal_included(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    row = one_step(found, tmp_path)
    assert row["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / 16, abs=1e-6)
    assert (row["rows"], row["signal_rows"], row["loss_tokens"]) == (3, 2, 16)
    assert row["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert (row["importance_mean"], row["importance_max"]) == pytest.approx((1.0, 1.0))
    only = one_step(found, tmp_path, signal_only=True)
    assert only["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / 14, abs=1e-6)
    assert (only["rows"], only["loss_tokens"]) == (2, 14)


def test_each_token_may_have_its_own_advantage(tmp_path: Path) -> None:
    """Ratios are 1, so the loss is minus the sum of all advantages over the 14 loss tokens: -(2.1 - 0.5 x 8) / 14."""
    found = tables([RIGHT, WRONG, EQUAL], {"right": 0.35, "wrong": -0.5})
    lists = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None]
    given = found["advantage"].with_columns(token_advantages=pl.Series(lists, dtype=pl.List(pl.Float32)))
    row = one_step(found | {"advantage": given}, tmp_path)
    assert row["loss"] == pytest.approx((4.0 - 2.1) / 14, abs=1e-6)
    short = given.with_columns(token_advantages=pl.Series([lists[0][:-1], None], dtype=pl.List(pl.Float32)))
    with pytest.raises(InputError, match=r"1 rollouts have another number .* first right \(5 and 6\)"):
        one_step(found | {"advantage": short}, tmp_path)


def test_signal_only_removes_other_rows_from_the_mini_batches(tmp_path: Path) -> None:
    """Two of twelve groups have a signal, and each of two mini-batches gets one of them. With a KL term every row has a
    signal."""
    silent = [Row(f"s{n}", group_id=f"extra/s0/i0/{n}") for n in range(2, 12)]
    loud = [Row(f"l{n}", group_id=f"extra/s0/i0/{n}", response_tokens=(10,) * (3 + n)) for n in range(2)]
    found = tables([*silent, *loud], {"l0": 1.0, "l1": 1.0} | {row.rollout_id: 0.0 for row in silent})
    steps = updated(found, tmp_path, signal_only=True, minibatches=2)[0]
    assert steps["rows"].to_list() == [1, 1]
    assert sorted(steps["loss_tokens"]) == [3, 4]
    with_kl = updated(found, tmp_path, signal_only=True, minibatches=2, kl_weight=0.1)[0]
    assert sum(with_kl["rows"]) == 12


def test_each_aggregate_has_its_denominator(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    sequence = one_step(found, tmp_path, aggregate="sequence_mean")
    assert sequence["loss"] == pytest.approx(-(1.5 - 0.5) / 3, abs=1e-6)
    constant = one_step(found, tmp_path, aggregate="constant", sampling={"max_response_tokens": 20})
    assert constant["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / (3 * 20), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_logprobs_are_taken_at_the_sampling_temperature(tmp_path: Path, temperature: float) -> None:
    sampling = {"temperature": temperature}
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0}, sampling=sampling)
    row = one_step(found, tmp_path, sampling=sampling)
    assert row["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    entropies = found["score_entropy_generate"]["entropies"].explode()
    assert row["entropy"] == pytest.approx(entropies.mean(), rel=1e-4)


def response_logprobs(manifest: Path, rows: list[Row]) -> list[float]:
    """The logprob of each whole response under a policy."""
    rollouts = tables_of(rows)["generate"]
    scores = run_stage(score_entropy, {"rollouts": rollouts}, paths={"policy": manifest})["score_entropy"]
    return scores["policy_logprobs"].list.sum().to_list()


def test_a_step_makes_correct_responses_likelier_and_incorrect_ones_less_likely(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, manifest = updated(found, tmp_path, learning_rate=1e-5)
    before, after = (response_logprobs(path, [RIGHT, WRONG]) for path in (INITIAL, manifest))
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_rows_that_are_left_out_are_not_in_the_denominator(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.0, "wrong": 0.0, "equal": 0.0})
    reasons = pl.Series("trained", ["trained", "unrescued", "excluded"], found["advantage"].schema["trained"])
    row = one_step(found | {"advantage": found["advantage"].with_columns(reasons)}, tmp_path)
    assert (row["rows"], row["loss_tokens"]) == (1, 6)
    assert row["loss"] == pytest.approx(-1.0, abs=1e-6)


def test_carried_parents_are_read_from_the_previous_iteration(tmp_path: Path) -> None:
    previous = tables([WRONG], {"wrong": -1.0})
    found = tables([RIGHT], {"right": 1.0}) | {"advantage": advantages({"right": 1.0, "wrong": -1.0})}
    found |= {f"previous_{name}": previous[name] for name in ("generate", "score_entropy_generate")}
    row = one_step(found, tmp_path)
    assert row["loss_tokens"] == 14
    assert row["loss"] == pytest.approx(-(6 - 8) / 14, abs=1e-6)


def unscored(scores: pl.DataFrame, name: str) -> pl.DataFrame:
    """The scores without those of one rollout, as `score_entropy.rows: signal` writes them."""
    gone = pl.col("rollout_id") == name
    lists = (pl.when(~gone).then(pl.col(column)).alias(column) for column in ("policy_logprobs", "entropies"))
    return scores.with_columns(*lists, computed_tokens=pl.when(gone).then(0).otherwise("computed_tokens"))


def test_a_row_without_a_signal_needs_no_scores_and_one_with_a_signal_does(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    scores = found["score_entropy_generate"]
    part = found | {"score_entropy_generate": unscored(scores, "equal")}
    whole, less = one_step(found, tmp_path / "0"), one_step(part, tmp_path / "1")
    assert whole == less
    assert whole["computed_tokens"] == 4 + 6 + 8  # the prompt once, both responses
    with pytest.raises(InputError, match=r"1 of 3 rollouts .*first equal"):
        one_step(part, tmp_path / "2", kl_weight=0.1)
    part |= {"score_entropy_generate": unscored(scores, "wrong")}
    with pytest.raises(InputError, match=r"1 of 2 rollouts .*first wrong"):
        one_step(part, tmp_path / "3")


def test_a_parent_may_be_scored_with_its_continuations(tmp_path: Path) -> None:
    previous = tables([WRONG], {"wrong": -1.0})
    found = tables([RIGHT], {"right": 1.0}) | {"advantage": advantages({"right": 1.0, "wrong": -1.0})}
    now = pl.concat([found["score_entropy_generate"], previous["score_entropy_generate"]])
    found |= {"previous_generate": previous["generate"], "score_entropy_generate": now}
    found |= {"previous_score_entropy_generate": unscored(previous["score_entropy_generate"], "wrong")}
    assert one_step(found, tmp_path)["loss"] == pytest.approx(-(6 - 8) / 14, abs=1e-6)


def test_a_mini_batch_without_a_signal_takes_no_step(tmp_path: Path) -> None:
    found = tables([RIGHT, EQUAL], {"right": 1.0, "equal": 0.0})
    metrics, _ = updated(found, tmp_path, minibatches=2)
    assert metrics["step"].to_list() == [0]
    assert metrics["loss_tokens"].to_list() == [6]


def test_scores_and_update_round_alike_in_bfloat16(tmp_path: Path) -> None:
    """Otherwise every ratio would start with the rounding of one of the two."""
    compute = {"precision": "bfloat16"}
    values = {"right": 1.0, "wrong": -1.0}
    found = tables([RIGHT, WRONG], values, compute=compute)
    assert one_step(found, tmp_path / "0", compute=compute)["approx_kl"] == pytest.approx(0.0, abs=1e-9)
    assert one_step(found, tmp_path / "1")["approx_kl"] > 1e-7
    assert {p.dtype for p in load_model(tmp_path / "0" / "policy").parameters()} == {torch.float32}
    stored = json.loads((tmp_path / "0" / "policy" / "config.json").read_text())
    assert stored["dtype"] == "float32"


def test_the_kl_term_is_zero_at_the_reference_and_reported_away_from_it(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 0.0})
    at_reference = one_step(found, tmp_path / "0", kl_weight=1.0)
    assert at_reference["kl_to_reference"] == pytest.approx(0.0, abs=1e-6)
    assert at_reference["signal_rows"] == 1
    _, moved = updated(tables([RIGHT], {"right": 1.0}), tmp_path / "1", learning_rate=3e-3)
    metrics, _ = updated(found, tmp_path / "2", policy=moved, kl_weight=1.0)
    assert metrics["kl_to_reference"][0] > 1e-3
    assert metrics["loss"][0] == pytest.approx(metrics["kl_to_reference"][0], rel=1e-4)


def test_the_learning_rate_of_an_iteration_follows_the_decay(tmp_path: Path) -> None:
    """Both mini-batches of iteration 1 have 0.2 + 0.8 / 2 of the peak; without a decay the peak, as before."""
    found = tables([RIGHT, EQUAL], {"right": 1.0, "equal": -1.0})  # two groups: one for each mini-batch
    decay = {"shape": "cosine", "over": 2, "final_share": 0.2}
    config = {"minibatches": 2, "learning_rate": 1e-3}
    steps = [updated(found, tmp_path / str(i), iteration=i, learning_rate_decay=decay, **config)[0] for i in range(4)]
    rates = [table["learning_rate"].to_list() for table in steps]
    for measured, share in zip(rates, (1.0, 0.6, 0.2, 0.2), strict=True):
        assert measured == pytest.approx([1e-3 * share] * 2)
    assert updated(found, tmp_path / "plain", **config)[0]["learning_rate"].to_list() == pytest.approx([1e-3] * 2)
    same = [read_manifest(tmp_path / name / "policy" / "manifest.json")["digest"] for name in ("0", "plain")]
    assert same[0] == same[1]  # the peak is the constant rate, to the last bit
