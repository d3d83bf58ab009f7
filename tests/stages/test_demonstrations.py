"""The supervised control: worked solutions instead of rollouts, through the stages of an iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError, InputError
from extra_rl.tables import contracts
from stages import advantage, generate, score_entropy, update, verify
from tests.conftest import POLICY
from tests.stages.rows import frame, group, problem, run_stage, tables_of

INITIAL = POLICY / "manifest.json"
SELECT = pl.DataFrame(
    {"group_id": ["extra/s0/i0/0", "extra/s0/i0/1"], "problem_id": ["a", "b"], "position": [0, 1]},
    schema=contracts.Selection.create_empty().schema,
)
PROBLEMS = [problem("a", "3 4 :", "7"), problem("b", "9 2 5 - 4 :", "12", benchmark="L3")]


def made(train: list[dict[str, Any]] = PROBLEMS, **config: Any) -> pl.DataFrame:
    tables = {"select": SELECT, "train": frame(contracts.Problems, train)}
    section = {"source": "demonstrations", "group_size": 2, **config}
    return run_stage(generate, tables, section, paths={"policy": INITIAL})["generate"]


def test_every_token_of_a_worked_solution_is_given_and_none_is_sampled() -> None:
    rows = made()
    assert rows["rollout_id"].to_list() == [f"extra/s0/i0/{g}/{n}" for g in range(2) for n in range(2)]
    assert set(rows["origin"]) == {"demonstration"}
    assert rows["prefix_length"].to_list() == rows["response_tokens"].list.len().to_list()
    assert rows["sampled_tokens"].sum() == 0
    assert rows["response"][0] in ("3 + 4 = 7", "4 + 3 = 7")
    assert made().equals(rows)
    assert rows["response"].str.contains("<eos>").sum() == 0
    assert {tokens[-1] for tokens in rows["response_tokens"]} == {2}


def test_they_are_judged_as_any_rollout_and_a_long_one_is_cut_off() -> None:
    train = frame(contracts.Problems, PROBLEMS)
    assert set(run_stage(verify, {"rollouts": made(), "train": train})["verify"]["verdict"]) == {"right"}
    short = made(sampling={"max_response_tokens": 8})
    assert short["finish_reason"].to_list() == ["stop", "stop", "length", "length"]
    verdicts = run_stage(verify, {"rollouts": short, "train": train})["verify"]["verdict"]
    assert verdicts.to_list() == ["right", "right", "truncated", "truncated"]


def test_a_right_one_has_the_advantage_one_and_no_bonus_whatever_the_config() -> None:
    tables = tables_of(group("rrw", novelty=5.0)) | tables_of([], prefix="previous_")
    given = {"origin": "demonstration", "prefix_length": 3, "sampled_tokens": 0}
    given_too = [pl.lit(value).alias(name) for name, value in given.items()]
    tables["generate"] = contracts.Rollouts.cast(tables["generate"].with_columns(given_too))
    for config in ({}, {"weight": 0.5, "prefix_loss": "trained"}, {"group": "joined", "keep_unrescued": False}):
        found = run_stage(advantage, tables, config)["advantage"]
        assert found["advantage"].to_list() == [1.0, 1.0, 0.0]
        assert found["bonus"].to_list() == [0.0] * 3
        assert found["trained"].to_list() == ["trained", "trained", "no_signal"]
        assert found["loss_start"].to_list() == [0, 0, 0]


def test_the_loss_is_the_cross_entropy_of_the_solutions(tmp_path: Path) -> None:
    rollouts = made(group_size=2)
    scores = run_stage(score_entropy, {"rollouts": rollouts}, paths={"policy": INITIAL})["score_entropy"]
    tables = tables_of([]) | {"generate": rollouts, "score_entropy_generate": scores}
    verdicts = run_stage(verify, {"rollouts": rollouts, "train": frame(contracts.Problems, PROBLEMS)})["verify"]
    novelty = rollouts.select("rollout_id", novelty=pl.lit(0.0), nearest_rollout_id=pl.lit(None, pl.String))
    novelty = contracts.Novelty.cast(novelty.with_columns(embedding=pl.lit(None, pl.List(pl.Float32))))
    tables |= {"verify_generate": verdicts, "novelty": novelty} | tables_of([], prefix="previous_")
    tables |= run_stage(advantage, tables)
    outputs = {"next_policy": tmp_path / "policy" / "manifest.json"}
    paths = {"policy": INITIAL, "initial": INITIAL}
    config = {"loss": "supervised", "minibatches": 1}
    steps = run_stage(update, tables, config, paths=paths, outputs=outputs)["update"]
    mean = scores["policy_logprobs"].explode().cast(pl.Float64).mean()
    assert steps["loss"].item() == pytest.approx(-mean, rel=1e-5)
    assert steps["clipped_high"].item() == steps["approx_kl"].item() == 0
    nothing = scores.with_columns(policy_logprobs=None, entropies=None)
    tables["score_entropy_generate"] = contracts.TokenScores.cast(nothing)  # as score_entropy.rows: signal leaves them
    again = run_stage(update, tables, config, paths=paths, outputs=outputs)["update"]
    assert again["loss"].item() == steps["loss"].item()
    with pytest.raises(InputError, match="have no logprobs of the policy"):
        run_stage(update, tables, {"minibatches": 1}, paths=paths, outputs=outputs)


def test_problems_from_files_need_a_worked_solution() -> None:
    rows = [{**row, "solution": text} for row, text in zip(PROBLEMS, ("3 + 4 = 7", None), strict=True)]
    with pytest.raises(ConfigError, match=r"b has none: name their column"):
        made(rows, task={"name": "math"})
    rows[1]["solution"] = "9 + 2 = 11"
    assert made(rows, task={"name": "math"})["response"].to_list() == ["3 + 4 = 7"] * 2 + ["9 + 2 = 11"] * 2


def test_nothing_is_sampled_so_there_are_no_further_rounds() -> None:
    with pytest.raises(ConfigError, match="samples nothing"):
        made(rounds=2)


def test_a_stop_string_ends_them_and_is_no_part_of_the_text() -> None:
    """With the words of the test policy only a word can end one: the boundary, after a single step."""
    rows = made(
        [PROBLEMS[0], {**PROBLEMS[1], "problem": "5 6 :", "prompt": "5 6 :", "answer": "11"}], sampling={"stop": [" ;"]}
    )
    assert set(rows["response"]) <= {"3 + 4 = 7", "4 + 3 = 7", "5 + 6 = 11", "6 + 5 = 11"}
    assert set(rows["finish_reason"]) == {"stop"}
    assert all(len(tokens) == 6 for tokens in rows["response_tokens"])
