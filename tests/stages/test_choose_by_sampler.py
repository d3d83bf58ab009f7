"""choose_prefixes by the sampler's own logprobs, without a scoring pass (`scores_from: sampler`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extra_rl.errors import ConfigError
from stages import choose_prefixes
from tests.conftest import POLICY
from tests.stages.rows import group, run_stage, tables_of
from tests.stages.test_choose_prefixes import CONFIG, FIRST, choose, hard, response

SAMPLER: dict[str, Any] = {"scores_from": "sampler", "rank": "low_mean_surprisal"}


def test_the_samplers_own_logprobs_choose_without_a_scoring_pass() -> None:
    """Policy and sampler disagree on which of the two rollouts has the lower surprisal."""
    rows = group("ww", response_tokens=response())
    first = replace(rows[0], sampler_logprob=-0.25, policy_logprob=-2.0)
    second = replace(rows[1], sampler_logprob=-1.5, policy_logprob=-0.5)
    by_surprisal = {"cut": "every_boundary", "rank": "low_mean_surprisal"}
    by_policy = choose([first, second], **by_surprisal)[0].filter("chosen")
    assert by_policy["prefix_id"].to_list() == [f"{FIRST}/1@4"]
    assert by_policy["score"].to_list() == [0.5]
    unscored = tables_of([first, second])
    del unscored["score_entropy_generate"]
    manifest = POLICY / "manifest.json"
    paths = {"policy": manifest, "initial": manifest}
    made = run_stage(choose_prefixes, unscored, {**CONFIG, **by_surprisal, **SAMPLER}, paths=paths)["choose_prefixes"]
    assert made.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/0@4"]
    assert made.sort("prefix_id")["score"].to_list() == [0.25, 0.25, 1.5, 1.5]
    with pytest.raises(ConfigError, match=r"score_entropy_generate.*scores_from: sampler"):
        run_stage(choose_prefixes, unscored, {**CONFIG, **by_surprisal}, paths=paths)


def test_the_peak_of_the_samplers_surprisal() -> None:
    made = choose(hard(), **SAMPLER, cut="before_peak_surprisal")[0]
    assert made.is_empty()  # all logprobs are equal: the first token is the peak, before every cut
    made = choose(hard(), scores_from="sampler", rank="random", cut="random")[0]
    assert made["score"].to_list() == [1.0, 1.0]  # mean surprisal, the only score without a scoring pass


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"cut": "before_peak_entropy", "rank": "random"}, " cut: before_peak_entropy "),
        ({"cut": "random", "rank": "high_mean_entropy"}, " rank: high_mean_entropy "),
        ({}, " cut: before_peak_entropy and rank: low_mean_entropy "),
    ],
)
def test_a_rule_by_entropy_is_refused_with_the_samplers_scores(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"scores_from: sampler.*{named}"):
        choose(hard(), scores_from="sampler", **config)


def test_settings_that_need_no_entropy_are_accepted() -> None:
    assert len(choose(hard(), scores_from="sampler", cut="none")[0]) == 1
    assert choose(hard(), scores_from="sampler", groups=0)[0].is_empty()
