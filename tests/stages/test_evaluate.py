"""evaluate: so many samples for every problem of a split, judged by its own answer, with noise that policies share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.models.policy import load_tokenizer, write_same_policy
from extra_rl.tables import contracts
from stages import evaluate
from tests.conftest import POLICY
from tests.stages.rows import frame, problem, run_stage

PROMPTS = {"3 4 :": [1, 6, 7, 107], "9 2 :": [1, 12, 5, 107]}
HELD_OUT = frame(
    contracts.Problems,
    [
        problem("seven", "3 4 :", "7") | {"split": "final", "prompt_tokens": PROMPTS["3 4 :"]},
        problem("eleven", "9 2 :", "11", "L2") | {"split": "final", "prompt_tokens": PROMPTS["9 2 :"]},
        problem("tuning", "3 4 :", "7") | {"split": "tuning", "prompt_tokens": PROMPTS["3 4 :"]},
    ],
)


def tables(policy: Path = POLICY / "manifest.json", arm: str = "extra", **config: Any) -> dict[str, pl.DataFrame]:
    section = {"samples": 8, "max_response_tokens": 24, "cache": None, **config}
    return run_stage(evaluate, {"held_out": HELD_OUT}, section, paths={"policy": policy}, arm=arm)


def evaluated(*policy: Path, **config: Any) -> pl.DataFrame:
    return tables(*policy, **config)["evaluate"]


def test_every_problem_of_the_split_gets_its_samples_and_its_own_answer() -> None:
    table = evaluated()
    assert table["problem_id"].to_list() == ["seven"] * 8 + ["eleven"] * 8
    assert table["sample_index"].to_list() == [*range(8), *range(8)]
    assert dict(table.select("problem_id", "gold").unique().rows()) == {"seven": "7", "eleven": "11"}
    for row in table.to_dicts():
        solved = row["response"] in ("3 + 4 = 7", "4 + 3 = 7", "9 + 2 = 11", "2 + 9 = 11")
        assert (row["verdict"] == "right") == solved, row["response"]
    assert (table["verdict"] == "right").any()


def test_samples_differ_but_are_the_same_for_every_policy_and_arm(tmp_path: Path) -> None:
    table = evaluated()
    assert table.filter(problem_id="seven")["response_tokens"].n_unique() > 1
    same = tmp_path / "policy" / "manifest.json"
    write_same_policy(same, POLICY / "manifest.json", {})
    assert evaluated(same, arm="grpo").equals(table)
    assert not evaluated(seed=1).equals(table)


def test_an_evaluation_has_its_own_sampling_settings() -> None:
    greedy = evaluated(top_k=1, sampling={"temperature": 1.7, "max_response_tokens": 3})
    assert greedy.filter(problem_id="seven")["response_tokens"].n_unique() == 1
    assert min(greedy["response_tokens"].list.len()) > 3


def test_stop_strings_default_to_those_of_training(tmp_path: Path) -> None:
    plain = evaluated(sampling={"stop": ["+"]}, stop=[])
    assert plain.equals(evaluated())
    cache = str(tmp_path / "cache")
    table = evaluated(stop=[" ="], cache=cache)
    assert table.equals(evaluated(sampling={"stop": [" ="]}))
    assert table.equals(evaluated(sampling={"stop": ["+"]}, stop=[" ="]))
    assert evaluated(stop=[" ="], cache=cache).equals(table)  # the second one has read no weights
    assert not evaluated(cache=cache).equals(table)
    assert [row["response"].partition(" =")[0] for row in plain.to_dicts()] == table["response"].to_list()
    equals = load_tokenizer(POLICY).get_vocab()["="]
    for tokens, reason in table.select("response_tokens", "finish_reason").iter_rows():
        assert equals not in tokens[:-1]
        assert reason == "stop" or tokens[-1] != equals
    assert table["response_tokens"].list.last().eq(equals).any()


def test_the_split_is_chosen_and_an_empty_one_refused() -> None:
    assert set(evaluated(split="tuning")["problem_id"]) == {"tuning"}
    with pytest.raises(InputError, match="no problem of the split 'tuning'"):
        run_stage(
            evaluate,
            {"held_out": HELD_OUT.filter(split="final")},
            {"split": "tuning", "cache": None},
            paths={"policy": POLICY / "manifest.json"},
        )


def test_the_figures_are_those_of_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    made = tables()
    right = made["evaluate"].group_by("benchmark").agg(100 * (pl.col("verdict") == "right").mean())
    figure = made["evaluate_figures"].filter(metric="pass_at_k", k=1)
    expected = dict(right.iter_rows())
    found = dict(figure.select("benchmark", "value").iter_rows())
    assert found == pytest.approx({**expected, "mean": sum(expected.values()) / len(expected)})
    assert set(made["evaluate_figures"].filter(metric="maj_at_k")["k"]) == set(range(1, 9))
    said = capsys.readouterr().out
    assert "evaluate extra: " in said
    assert f"{found['mean']:.1f} [" in said.splitlines()[-1]


def test_the_cache_changes_no_byte_and_is_shared_by_arms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = str(tmp_path / "cache")
    fresh, filled = tables(), tables(cache=cache, part_samples=4)
    found = tables(cache=cache, arm="grpo")
    assert "evaluate grpo: 16 of 16 samples are cached" in capsys.readouterr().out
    for name in ("evaluate", "evaluate_figures"):
        assert fresh[name].equals(filled[name])
        assert fresh[name].equals(found[name])
