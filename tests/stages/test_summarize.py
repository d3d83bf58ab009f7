"""summarize: an iteration in one row, every figure counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.models.policy import load_model
from extra_rl.tables import contracts
from stages import advantage, summarize
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, group, run_stage, tables_of

PATHS = {"policy": POLICY / "manifest.json"}
WAITED = "extra/s0/i1/7"
LN2 = math.log(2)


def summary(tables: dict[str, pl.DataFrame], folder: Path, **derived: Any) -> dict[str, Any]:
    outputs = {"summarize": folder / "summarize.parquet"}
    made = run_stage(summarize, tables, paths=PATHS, outputs=outputs, derived=derived, iteration=2)
    (row,) = made["summarize"].to_dicts()
    return row


def step(number: int, loss: float, norm: float, mean: float, maximum: float) -> dict[str, Any]:
    counts = dict.fromkeys(("rows", "signal_rows", "loss_tokens", "computed_tokens"), 1)
    zeros = dict.fromkeys(("learning_rate", "clipped_low", "clipped_high", "approx_kl", "entropy"), 0.0)
    importance = {"importance_mean": mean, "importance_max": maximum}
    return {
        "step": number,
        "loss": loss,
        "gradient_norm": norm,
        "kl_to_reference": None,
        **counts,
        **zeros,
        **importance,
    }


def iteration() -> list[Row]:
    """Four fresh groups (all incorrect, mixed, all correct, unjudged) and two rescued continuations."""
    places = [f"extra/s0/i2/{n}" for n in range(4)]
    long = {"response_tokens": (10, 11, 12, 2), "entropies": (1.0,) * 4}
    wrong = group("wt", group_id=places[0], problem_id="p0", finish_reason="length", **long)
    mixed = group("rwe", group_id=places[1], problem_id="p1")
    right = group("rr", group_id=places[2], problem_id="p2", novelty=0.5)
    unjudged = group("ee", group_id=places[3], problem_id="p3")
    parent = Row(f"{WAITED}/0", group_id=WAITED, problem_id="p7")
    second = Row("extra/s0/i1/8/0", group_id="extra/s0/i1/8", problem_id="p8")
    rescued = [parent.continued(f"extra/s0/i2/i1.7/{n}", 1, verdict="right") for n in (0, 1)]
    lost = second.continued("extra/s0/i2/i1.8/0", 1)
    return [*wrong, *mixed, *right, *unjudged, *rescued, lost]


def tables(rows: list[Row], **advantages: Any) -> dict[str, pl.DataFrame]:
    found = tables_of(rows) | {"choose_prefixes": contracts.Prefixes.create_empty()}
    found |= run_stage(advantage, found, advantages, iteration=2)
    steps = [step(0, 0.25, 2.0, 1.0, 3.0), step(1, -0.75, 4.0, 1.5, 2.0)]
    return found | {"update": frame(contracts.UpdateSteps, steps)}


def test_replays_are_counted_apart_from_continuations(tmp_path: Path) -> None:
    parent = Row(f"{WAITED}/0", group_id=WAITED, problem_id="p7")
    groups = {"r1.7": ("right", "wrong", "right", "wrong"), "r0.3": ("right", "right", "error")}
    replays = [
        parent.continued(f"extra/s0/i2/i1.{name}/{n}", 1, verdict=verdict, group_id=f"extra/s0/i1/{name}")
        for name, verdicts in groups.items()
        for n, verdict in enumerate(verdicts)
    ]
    row = summary(tables([*iteration(), *replays]), tmp_path)
    assert (row["rollouts"], row["sampled_tokens"]) == (19, 12 * 3 + 2 - 3 + 7 * 2)
    assert (row["regenerated_rollouts"], row["regenerated_groups"], row["rescued_groups"]) == (3, 2, 1)
    assert (row["replayed_rollouts"], row["replayed_groups"], row["replayed_mixed"]) == (7, 2, 1)
    assert row["replayed_pass_rate"] == pytest.approx(4 / 6)
    assert row["stored_trajectories"] == 0
    none = summary(tables(iteration()), tmp_path)
    assert (none["replayed_rollouts"], none["replayed_groups"], none["replayed_pass_rate"]) == (0, 0, None)


def test_every_count_of_an_iteration(tmp_path: Path) -> None:
    row = summary(tables(iteration()), tmp_path)
    assert (row["arm"], row["seed"], row["iteration"]) == ("extra", 0, 2)
    assert (row["rollouts"], row["groups"]) == (12, 4)
    assert (row["all_incorrect"], row["mixed"], row["all_correct"]) == (1, 1, 1)
    assert row["excluded"] == row["verdict_error"] == 3
    assert (row["verdict_right"], row["verdict_wrong"], row["verdict_truncated"]) == (5, 3, 1)
    assert sum(count for name, count in row.items() if name.startswith("verdict_")) == row["rollouts"]
    assert row["pass_rate"] == row["mean_reward"] == pytest.approx(3 / 6)
    assert row["truncated"] == 2
    assert (row["regenerated_rollouts"], row["regenerated_groups"], row["rescued_groups"]) == (3, 2, 1)
    # fresh only: two of 4 tokens at 1.0 nats, seven of 3 tokens at 0.5 nats
    assert row["mean_length"] == pytest.approx((2 * 4 + 7 * 3) / 9)
    assert row["mean_entropy"] == pytest.approx((8 * 1.0 + 21 * 0.5) / 29)
    # nine fresh responses in full, three continuations without the token that they took over
    assert row["sampled_tokens"] == row["total_sampled_tokens"] == 29 + 3 * 2
    assert (row["steps"], row["loss"], row["gradient_norm"]) == (2, -0.25, 3.0)
    assert (row["importance_mean"], row["importance_max"]) == (1.25, 3.0)


def test_the_bonus_share_is_weighted_by_length_over_all_rows(tmp_path: Path) -> None:
    mixed = group("rw", group_id="extra/s0/i2/0", response_tokens=(10, 11, 12, 2))
    right = group("rr", group_id="extra/s0/i2/1", problem_id="p1", novelty=0.5)
    row = summary(tables([*mixed, *right], weight=1.0, eps=1e-12), tmp_path)
    # bonus 2 rows x 3 tokens x 0.5; reward 2 rows x 4 tokens x sqrt(1/2)
    assert row["bonus_share"] == pytest.approx(3 / (3 + 8 * 0.5**0.5), abs=1e-5)


def test_the_mismatch_is_that_of_the_sampled_tokens_of_both_calls(tmp_path: Path) -> None:
    """Three fresh tokens off by ln 2, two of another rollout by ln 4, one continued token by -ln 2; the two tokens of
    its prefix, which another policy sampled, are not counted."""
    off = {"sampler_logprob": -3.0}
    fresh = Row("extra/s0/i2/0/0", group_id="extra/s0/i2/0", policy_logprob=-3 + LN2, **off)
    short = replace(fresh, rollout_id="extra/s0/i2/0/1", response_tokens=(10, 2), policy_logprob=-3 + 2 * LN2)
    parent = Row(f"{WAITED}/0", group_id=WAITED, problem_id="p7")
    child = parent.continued("extra/s0/i2/i1.7/0", 2, policy_logprob=-3 - LN2, **off)
    found = tables_of([fresh, short], [child]) | {"choose_prefixes": contracts.Prefixes.create_empty()}
    child_scores = found["score_entropy_regenerate"].with_columns(
        policy_logprobs=pl.Series([[-3 + 9 * LN2] * 2 + [-3 - LN2]], dtype=pl.List(pl.Float32))
    )
    found |= {"score_entropy_regenerate": child_scores, "update": contracts.UpdateSteps.create_empty()}
    found |= run_stage(advantage, found, iteration=2)
    row = summary(found, tmp_path)
    assert row["mismatch_mean"] == pytest.approx((3 + 2 * 2 + 1) * LN2 / 6, rel=1e-6)
    # the fifth and sixth of six are both ln 4
    assert row["mismatch_p99"] == pytest.approx(2 * LN2, rel=1e-6)
    assert row["mismatch_max_ratio"] == pytest.approx(4.0, rel=1e-6)
    k3 = 3 * (2 - 1 - LN2) + 2 * (4 - 1 - 2 * LN2) + (0.5 - 1 + LN2)
    assert row["mismatch_kl"] == pytest.approx(k3 / 6, rel=1e-5)


def test_carried_parents_are_not_counted_twice(tmp_path: Path) -> None:
    parents = group("ww", group_id=WAITED, problem_id="p7")
    rows = [parents[0].continued("extra/s0/i2/i1.7/0", 1, verdict="right")]
    found = tables_of(rows) | tables_of(parents, prefix="previous_")
    found |= {"choose_prefixes": contracts.Prefixes.create_empty(), "update": contracts.UpdateSteps.create_empty()}
    found |= run_stage(advantage, found, {"group": "joined"}, iteration=2)
    assert found["advantage"]["carried"].to_list() == [False, True, True]
    row = summary(found, tmp_path)
    assert (row["rollouts"], row["groups"], row["sampled_tokens"]) == (1, 0, 2)


def test_sampled_tokens_add_up_over_iterations(tmp_path: Path) -> None:
    found = tables(iteration())
    first = summary(found, tmp_path)
    previous = frame(contracts.IterationSummary, [first | {"iteration": 1, "total_sampled_tokens": 1000}])
    assert summary(found | {"previous_summarize": previous}, tmp_path)["total_sampled_tokens"] == 1035


def test_compute_is_counted_from_the_tables(tmp_path: Path) -> None:
    """By hand: the first group's prompt of 2 tokens is read once for its two rollouts, that of the same problem in
    another group not again, that of a demonstration not at all; two continuations share prompt and prefix
    (2 + 1 tokens), a third has a longer prefix (2 + 2)."""
    place, other = "extra/s0/i2/0", "extra/s0/i2/1"
    twins = group("rw", group_id=place)
    again = group("w", group_id=other)
    given = Row("extra/s0/i2/2/9", group_id="extra/s0/i2/2", prompt_tokens=(1, 5, 5, 5), response_tokens=(10,))
    given = replace(given, origin="demonstration", prefix_length=1)
    parent = Row(f"{WAITED}/0", group_id=WAITED, problem_id="p7", prompt_tokens=(1, 6))
    short = [parent.continued(f"extra/s0/i2/i1.7/{n}", 1) for n in (0, 1)]
    longer = parent.continued("extra/s0/i2/i1.7/2", 2)
    found = tables([*twins, *again, given, *short, longer])
    row = summary(found, tmp_path)
    assert row["sampled_tokens"] == 3 * 3 + 2 + 2 + 1
    assert row["prefilled_tokens"] == 2 + 3 + 4
    assert row["scored_tokens"] == 6 * (2 + 3) + 5  # each prompt and response in full, as the table of scores says
    assert row["trained_tokens"] == 2
    weights = sum(parameter.numel() for parameter in load_model(POLICY).parameters())
    assert row["compute"] == row["total_compute"] == 2 * weights * (14 + 9 + 35) + 6 * weights * 2
    previous = frame(contracts.IterationSummary, [row | {"iteration": 1, "total_compute": 1e9}])
    assert summary(found | {"previous_summarize": previous}, tmp_path)["total_compute"] == row["compute"] + 1e9


def test_useful_groups_are_counted_per_token_and_per_operation(tmp_path: Path) -> None:
    """Of the four fresh and two continued groups one is mixed; the bonus of the solved one makes it no useful group."""
    row = summary(tables(iteration(), weight=1.0), tmp_path)
    assert row["useful_groups"] == 1
    assert row["useful_per_1000_tokens"] == pytest.approx(1000 / 35)
    assert row["useful_per_tflop"] == pytest.approx(1e12 / row["compute"])
    # Joined to parents that failed, the continuations that were both correct are a second one.
    parents = tables_of(group("ww", group_id=WAITED, problem_id="p7"), prefix="previous_")
    found = tables(iteration())
    found |= run_stage(advantage, found | parents, {"group": "joined"}, iteration=2)
    assert summary(found, tmp_path)["useful_groups"] == 2


def test_only_rollouts_that_were_embedded_are_charged(tmp_path: Path) -> None:
    """A tail of 3 tokens: of responses of 4, 4 and 3 tokens 3 each are read. The figure is no part of compute."""
    found = tables(iteration())
    row = summary(found, tmp_path)
    assert (row["embedded_tokens"], row["embedding_compute"]) == (0, 0.0)
    vectors = [[1.0, 0.0] if place < 3 else None for place in range(len(found["novelty"]))]
    given = {"novelty": found["novelty"].with_columns(embedding=pl.Series(vectors, dtype=pl.List(pl.Float32)))}
    weights = sum(parameter.numel() for parameter in load_model(POLICY).parameters())
    embedded = summary(found | given, tmp_path, embedder="policy", tail_tokens=3)
    assert (embedded["embedded_tokens"], embedded["embedding_compute"]) == (9, 2.0 * weights * 9)
    assert embedded["compute"] == row["compute"]
    sentence = summary(found | given, tmp_path, embedder="sentence", tail_tokens=3)
    assert (sentence["embedded_tokens"], sentence["embedding_compute"]) == (9, None)


def prefix(n: int, tokens: int, smoothed: float | None) -> dict[str, Any]:
    """A row of choose_prefixes. tokens: of the prefix. smoothed: its smoothed score."""
    return {
        "prefix_id": f"{WAITED}/{n}@{tokens}",
        "group_id": WAITED,
        "problem_id": "p7",
        "parent_rollout_id": f"{WAITED}/{n}",
        "iteration": 1,
        "prompt_tokens": [1, 5],
        "prefix_tokens": [7] * tokens,
        "prefix_logprobs": None,
        "parent_length": tokens + 1,
        "cut_reason": "boundary",
        "score": 0.5,
        "smoothed_score": smoothed,
        "effective_neighbours": smoothed,
        "estimate": None,
        "rank": n,
        "chosen": False,
        "continuations": 0,
        "when": "next_iteration",
    }


def test_embedded_prefixes_are_charged(tmp_path: Path) -> None:
    """Prefixes of 3, 5 and 600 tokens with smoothed scores, and one of 100 without, a replay or a fresh sample."""
    rows = [prefix(0, 3, 0.5), prefix(1, 5, 0.5), prefix(2, 600, 0.5), prefix(3, 100, None)]
    found = tables(iteration())
    vectors = [[1.0, 0.0] if place < 3 else None for place in range(len(found["novelty"]))]
    found |= {
        "choose_prefixes": frame(contracts.Prefixes, rows),
        "novelty": found["novelty"].with_columns(embedding=pl.Series(vectors, dtype=pl.List(pl.Float32))),
    }
    weights = sum(parameter.numel() for parameter in load_model(POLICY).parameters())

    def charged(**derived: Any) -> tuple[int, float | None]:
        row = summary(found, tmp_path, tail_tokens=3, **derived)
        return row["embedded_tokens"], row["embedding_compute"]

    # 9 tokens of responses; the policy reads the last 512 tokens of a prefix: 3 + 5 + 512
    assert charged(embedder="policy") == (9, 2.0 * weights * 9)
    assert charged(embedder="policy", smoothing="policy") == (529, 2.0 * weights * 529)
    assert charged(embedder="policy", smoothing="sentence") == (9 + 608, None)
    assert charged(embedder="sentence", smoothing="policy") == (529, None)
    found["novelty"] = tables(iteration())["novelty"]
    assert charged(smoothing="policy") == (520, 2.0 * weights * 520)


def test_unscored_rollouts_are_excluded_from_means(tmp_path: Path) -> None:
    rows = group("rw", group_id="extra/s0/i2/0", entropies=(1.0, 2.0, 3.0), policy_logprob=-1 + LN2)
    found = tables([*rows, *group("ww", group_id="extra/s0/i2/1", entropies=(9.0,) * 3, policy_logprob=-9.0)])
    left_out = pl.col("rollout_id").str.contains("/i2/1/")
    scores = found["score_entropy_generate"].with_columns(
        *(pl.when(~left_out).then(pl.col(name)).alias(name) for name in ("policy_logprobs", "entropies")),
        computed_tokens=pl.when(left_out).then(0).otherwise("computed_tokens"),
    )
    row = summary(found | {"score_entropy_generate": scores}, tmp_path)
    assert (row["mean_entropy"], row["scored_tokens"]) == (2.0, 10)
    assert row["mismatch_mean"] == pytest.approx(LN2, rel=1e-6)
    nothing = scores.with_columns(policy_logprobs=None, entropies=None, computed_tokens=pl.lit(0)).cast(scores.schema)
    row = summary(found | {"score_entropy_generate": nothing}, tmp_path)
    assert (row["mean_entropy"], row["mismatch_mean"], row["scored_tokens"]) == (None, None, 0)


def test_an_empty_iteration_has_no_means_and_reports_the_spent_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tables_of([]) | {
        "choose_prefixes": contracts.Prefixes.create_empty(),
        "advantage": contracts.Advantages.create_empty(),
        "update": contracts.UpdateSteps.create_empty(),
    }
    row = summary(found, tmp_path)
    assert row["rollouts"] == row["groups"] == row["sampled_tokens"] == row["steps"] == 0
    empty = ("pass_rate", "mean_reward", "mean_entropy", "mean_length", "loss", "gradient_norm", "importance_max")
    empty += ("useful_per_1000_tokens", "useful_per_tflop")
    empty += ("mismatch_mean", "mismatch_p99", "mismatch_max_ratio", "mismatch_kl")
    assert [row[name] for name in empty] == [None] * len(empty)
    assert "budget was spent" in capsys.readouterr().out


def test_the_line_has_the_figures_of_the_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary(tables(iteration()), tmp_path)
    line = capsys.readouterr().out
    for part in (
        "extra/s0: 3/3 iterations",
        "pass 50.0%",
        "groups 1 solved, 1 mixed, 1 unsolved",
        "continued 2 groups, rescued 1",
    ):
        assert part in line
    assert "2 cut off" in line
