"""Values that follow from other sections: part of the jobs that need them, and no key of a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.config.derived import derive
from extra_rl.run.stage import Job
from stages import STAGES
from stages.experiment import experiment_of, job_json
from stages.load import load
from tests.config.test_config import MINIMAL, SIGNAL, refusal


def derived(stage: str, arm: str = "grpo", **changes: Any) -> dict[str, Any]:
    return derive(experiment_of(MINIMAL | changes), stage, arm)


def test_the_comparison_derives_seeds_regimes_and_the_budget_of_every_arm() -> None:
    assert derived("compare", "") == {
        "token_budgets": {"grpo": None},
        "compute_budgets": {"grpo": None},
        "warm_starts": [0],
        "seeds": [0],
        "regimes": {},
    }
    arms = {"grpo": {"select": {"compute_budget": 1e15}}, "extra": {"select": {"token_budget": 7}}}
    changed = derived(
        "compare",
        "",
        arms=arms,
        select={"token_budget": 1000},
        seeds=[3, 2],
        warm_starts=[1, 0],
        regimes={"s": {"value": 5}},
    )
    assert changed == {
        "token_budgets": {"s-grpo": 1000, "s-extra": 7},
        "compute_budgets": {"s-grpo": 1e15, "s-extra": None},
        "warm_starts": [1, 0],
        "seeds": [3, 2],
        "regimes": {"s": 5.0},
    }


def test_scoring_by_signal_derives_which_rollouts_carry_one() -> None:
    joined = {"advantage": {"group": "joined", "weight": 0.1}}
    assert derived("score_entropy", **SIGNAL, **joined) == {"joined": True, "bonus": True}
    assert derived("score_entropy", **SIGNAL) == {"joined": False, "bonus": False}
    further = {"advantage": {"zero_variance_weight": 0.1, "credit": "segment"}}
    off = {"joined": False, "bonus": False}
    assert derived("score_entropy", **SIGNAL, **further) == off | {"zero_variance": True, "segments": True}
    assert derived("score_entropy", **joined) == {}  # all rows are scored, whatever the advantages are


def test_the_embedder_of_the_novelty_measure_is_derived() -> None:
    def embedder(**novelty: Any) -> dict[str, Any]:
        return derived("summarize", novelty=novelty)

    assert embedder() == {"embedder": "", "tail_tokens": 512}
    assert embedder(measure="policy", tail_tokens=9) == {"embedder": "policy", "tail_tokens": 9}
    assert embedder(measure="elliptical", params={"reference": "sentence"})["embedder"] == "sentence"
    assert embedder(measure="lexical")["embedder"] == ""


def test_the_embedder_of_candidate_prefixes_is_derived_where_it_is_used() -> None:
    def smoothing(**section: Any) -> Any:
        prefixes = {"groups": "all_hard", "smoothing": "policy", **section}
        return derived("summarize", choose_prefixes=prefixes).get("smoothing")

    assert (smoothing(), smoothing(smoothing="sentence", groups=1)) == ("policy", "sentence")
    # Jobs of runs that embed no prefix are those of a version without the value.
    assert [smoothing(smoothing="none"), smoothing(groups=0), smoothing(cut="none")] == [None] * 3


def test_a_demonstration_ends_with_the_first_stop_string() -> None:
    assert derived("warm_start", "", sampling={"stop": ["b", "a"]}) == {"stop": "b"}
    assert derived("warm_start", "") == {"stop": None}


def test_a_worked_solution_to_replay_ends_with_the_first_stop_string() -> None:
    replay = {"replay": {"rows": 1, "source": "demonstrations"}}
    assert derived("choose_prefixes", choose_prefixes=replay, sampling={"stop": ["b", "a"]}) == {"stop": "b"}
    assert derived("choose_prefixes", choose_prefixes=replay) == {"stop": None}
    assert derived("choose_prefixes", choose_prefixes={"replay": {"rows": 1}}, sampling={"stop": ["b"]}) == {}


def test_the_cheapest_action_depends_on_whether_continuations_join_their_parents() -> None:
    cheapest = {"groups": 4, "action": "cheapest", "rank": "calibrated"}
    joined = {"advantage": {"group": "joined"}}
    assert derived("choose_prefixes", choose_prefixes=cheapest, **joined) == {"joined_group": True}
    assert derived("choose_prefixes", choose_prefixes=cheapest) == {}
    assert derived("choose_prefixes", choose_prefixes={**cheapest, "groups": 0}, **joined) == {}
    assert derived("choose_prefixes", choose_prefixes={"groups": 4}, **joined) == {}


OF_CREDIT = {"zero_variance", "segments"}
"""Derived values that only a configuration with advantages by token has: other jobs stay as they are."""
OF_ACTION = {"joined_group"}
"""A derived value that only a configuration with `action: cheapest` and joined groups has."""
OF_SMOOTHING = {"smoothing"}
"""Derived value that only a configuration with smoothed scores of prefixes has."""
OF_USER_CODE = {"judge_source", "task_source", "weights"}
"""Derived values that only a configuration with a user's judge or task has (tests/judging/test_source.py)."""


def test_derived_values_are_part_of_the_job_and_of_no_section() -> None:
    schedule = {"schedule": [{"from": 1, "select.prompts": 8}]}
    oracle = {"choose_prefixes": {"replay": {"rows": 1, "source": "demonstrations"}}}
    experiment = experiment_of(MINIMAL | {"generate": {"rounds": 3}} | SIGNAL | schedule | oracle)
    for stage in STAGES:
        place = {"arm": "grpo", "seed": "0", "iteration": "0001"}
        job = Job.from_json(job_json(experiment, stage, {} if stage in ("warm_start", "compare") else place))
        module = load(stage)
        assert not set(module.STAGE.derived.model_fields) & set(module.Config.model_fields)
        off = OF_USER_CODE | OF_CREDIT | OF_ACTION | OF_SMOOTHING
        assert set(job.derived) == set(module.STAGE.derived.model_fields) - off
        module.STAGE.derived_of(job)


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        *(("select", key) for key in ("rounds", "continued")),
        ("warm_start", "stop"),
        *((stage, "judge_source") for stage in ("verify", "evaluate", "generate")),
        *((stage, "task_source") for stage in ("prepare", "warm_start", "generate")),
        *(("score_entropy", key) for key in ("joined", "bonus", "zero_variance", "segments")),
        *(("summarize", key) for key in ("embedder", "smoothing", "tail_tokens")),
        *(("compare", key) for key in ("token_budget", "token_budgets", "compute_budget", "compute_budgets")),
        *(("compare", key) for key in ("warm_starts", "seeds", "regimes")),
    ],
)
def test_a_derived_value_is_an_unknown_key_of_a_configuration(stage: str, key: str) -> None:
    assert f"{stage}.{key}: unknown key" in refusal(**{stage: {key: 1}})
