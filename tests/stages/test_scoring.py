"""generate, regenerate and score_entropy on a real policy: lineage, temperature, and that both tell one story."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from extra_rl.errors import ConfigError, NumericalError
from extra_rl.models.policy import load_model, load_policy, save_policy
from extra_rl.run.context import Guards, RunContext
from extra_rl.tables import contracts
from stages import generate, regenerate, score_entropy
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, problem, run_stage, tables_of

PATHS = {"policy": POLICY / "manifest.json"}
PROMPT = [1, 6, 7, 107]  # `<bos> 3 4 :`
TRAIN = frame(contracts.Problems, [problem("seven") | {"prompt_tokens": PROMPT}])
SELECT = frame(contracts.Selection, [{"group_id": "extra/s0/i1/0", "problem_id": "seven", "position": 0}])
HOT = {"sampling": {"temperature": 1.7, "max_response_tokens": 12}}


def prefix(when: str = "next_iteration", length: int = 3) -> dict[str, Any]:
    """A chosen prefix of two continuations, as `choose_prefixes` writes it."""
    return {
        "prefix_id": f"extra/s0/i0/4/2@{length}",
        "group_id": "extra/s0/i0/4",
        "problem_id": "seven",
        "parent_rollout_id": "extra/s0/i0/4/2",
        "iteration": 0,
        "prompt_tokens": PROMPT,
        "prefix_tokens": [6, 103, 7][:length],
        "prefix_logprobs": [-0.25, -0.5, -0.75][:length],
        "cut_reason": "before_peak",
        "score": 0.5,
        "smoothed_score": None,
        "effective_neighbours": None,
        "rank": 0,
        "chosen": True,
        "continuations": 2,
        "when": when,
    }


def generated(*prefixes: dict[str, Any], **config: Any) -> pl.DataFrame:
    tables = {"select": SELECT, "train": TRAIN, "previous_choose_prefixes": frame(contracts.Prefixes, prefixes)}
    section = {**HOT, "group_size": 3, **config}
    return run_stage(generate, tables, section, paths=PATHS, iteration=1)["generate"]


def test_a_group_is_as_large_as_asked_and_named_after_its_place() -> None:
    table = generated()
    assert table["rollout_id"].to_list() == [f"extra/s0/i1/0/{n}" for n in range(3)]
    assert set(table["origin"]) == {"fresh"}
    assert len({tuple(tokens) for tokens in table["response_tokens"]}) > 1
    assert max(table["response_tokens"].list.len()) <= 12
    assert table.equals(generated())


def test_queued_prefixes_are_sampled_with_the_fresh_prompts_and_keep_their_lineage() -> None:
    fresh, table = generated(), generated(prefix())
    assert table.head(3)["response_tokens"].to_list() == fresh["response_tokens"].to_list()
    continued = table.tail(2).to_dicts()
    assert [row["rollout_id"] for row in continued] == ["extra/s0/i1/i0.4/0", "extra/s0/i1/i0.4/1"]
    for row in continued:
        assert (row["group_id"], row["problem_id"], row["origin"]) == ("extra/s0/i0/4", "seven", "regenerated")
        assert (row["prefix_id"], row["parent_rollout_id"]) == ("extra/s0/i0/4/2@3", "extra/s0/i0/4/2")
        assert row["response_tokens"][:3] == [6, 103, 7]
        assert row["sampler_logprobs"][:3] == [-0.25, -0.5, -0.75]
        assert row["sampled_tokens"] == len(row["response_tokens"]) - 3
        assert len(row["response_tokens"]) <= 12
        assert row["response"].startswith("3 + 4")


def test_a_prefix_is_sampled_in_the_call_that_it_is_due_in() -> None:
    assert len(generated(prefix("same_iteration"))) == 3
    due = frame(contracts.Prefixes, [prefix("same_iteration")])
    later = frame(contracts.Prefixes, [prefix("next_iteration")])
    table = run_stage(regenerate, {"choose_prefixes": due}, HOT, paths=PATHS)["regenerate"]
    assert table["rollout_id"].to_list() == ["extra/s0/i0/i0.4/0", "extra/s0/i0/i0.4/1"]
    assert run_stage(regenerate, {"choose_prefixes": later}, HOT, paths=PATHS)["regenerate"].is_empty()


def test_a_prefix_counts_against_the_response_limit() -> None:
    short = generated(prefix(), sampling={"max_response_tokens": 4}).filter(origin="regenerated")
    assert short["response_tokens"].list.len().to_list() == [4, 4]
    assert short["sampled_tokens"].to_list() == [1, 1]
    assert set(short["finish_reason"]) == {"length"}


@pytest.mark.parametrize("sampling", [{"top_p": 0.9}, {"top_k": 5}])
def test_training_refuses_a_cut_distribution(sampling: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be trained on"):
        generated(sampling=sampling)


def test_once_the_budget_is_spent_nothing_is_sampled_queued_prefixes_included() -> None:
    tables = {
        "select": contracts.Selection.create_empty(),
        "train": TRAIN,
        "previous_choose_prefixes": frame(contracts.Prefixes, [prefix()]),
    }
    assert run_stage(generate, tables, HOT, paths=PATHS)["generate"].is_empty()


def scored(rollouts: pl.DataFrame, run: RunContext | None = None, **config: Any) -> pl.DataFrame:
    return run_stage(score_entropy, {"rollouts": rollouts}, config, paths=PATHS, run=run)["score_entropy"]


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_scores_are_the_full_distributions_at_the_sampling_temperature(temperature: float) -> None:
    import torch

    rollouts = tables_of([Row("a", prompt_tokens=tuple(PROMPT), response_tokens=(6, 103, 7, 105, 10, 2))])["generate"]
    (row,) = scored(rollouts, sampling={"temperature": temperature}).to_dicts()
    tokens = PROMPT + rollouts["response_tokens"][0].to_list()
    with torch.inference_mode():
        logits_TV = load_model(POLICY)(torch.tensor([tokens])).logits[0, 3:-1].double().numpy() / temperature
    logprobs_TV = logits_TV - np.log(np.exp(logits_TV).sum(axis=1, keepdims=True))
    entropies_T = -(np.exp(logprobs_TV) * logprobs_TV).sum(axis=1)
    assert row["entropies"] == pytest.approx(entropies_T, abs=1e-4)
    assert row["policy_logprobs"] == pytest.approx(logprobs_TV[np.arange(6), tokens[4:]], abs=1e-4)


def test_the_policys_logprobs_agree_with_the_samplers_at_any_temperature() -> None:
    rollouts = generated()
    scores = scored(rollouts, sampling=HOT["sampling"])
    for sampler, policy in zip(rollouts["sampler_logprobs"], scores["policy_logprobs"], strict=True):
        assert policy.to_list() == pytest.approx(sampler.to_list(), abs=1e-3)
    cold = scored(rollouts)
    assert max(abs(cold["policy_logprobs"].explode() - scores["policy_logprobs"].explode())) > 0.1


def test_a_run_stops_where_sampler_and_policy_differ() -> None:
    """The sampler's own rollouts pass, continuations included, whose prefix was sampled by another policy."""
    stop = RunContext(guards=Guards("stop"))
    rollouts = generated(prefix())
    scored(rollouts, stop, sampling=HOT["sampling"])
    with pytest.raises(NumericalError, match="sampler and policy differ by"):
        scored(rollouts, stop, sampling={"temperature": 1.0})
    scored(rollouts.clear(), stop)


def test_scores_do_not_depend_on_what_is_scored_beside_them() -> None:
    rows = [Row(str(n), response_tokens=(6, 103, 7, 105, 10, 2)[: n + 1]) for n in range(5)]
    rollouts = tables_of(rows)["generate"]
    together, apart = scored(rollouts), scored(rollouts, tokens_per_batch=1)
    assert together["rollout_id"].to_list() == apart["rollout_id"].to_list() == list("01234")
    for column in ("policy_logprobs", "entropies"):
        for left, right in zip(together[column], apart[column], strict=True):
            assert left.to_list() == pytest.approx(right.to_list(), abs=1e-4)


def test_a_policy_that_has_diverged_is_named(tmp_path: Any) -> None:
    policy = load_policy(POLICY / "manifest.json")
    policy.model.model.norm.weight.data.fill_(3e38)
    manifest = tmp_path / "policy" / "manifest.json"
    save_policy(manifest, policy.model, policy.tokenizer, {})
    rollouts = tables_of([Row("a")])["generate"]
    with pytest.raises(NumericalError, match=f"{manifest.parent} gives logprobs that are not finite"):
        run_stage(score_entropy, {"rollouts": rollouts}, paths={"policy": manifest})
