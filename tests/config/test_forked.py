"""The configuration of a fork."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.config.forked import changed, changes_of
from extra_rl.config.selection import Selection
from extra_rl.errors import ConfigError
from stages.experiment import experiment_of

RAW: dict[str, Any] = {
    "name": "x",
    "iterations": 10,
    "seeds": [0, 1, 2],
    "arms": {"grpo": {}, "extra": {"preset": "surprisal", "update": {"learning_rate": 1e-3}}},
    "schedule": [{"from": 3, "arms": ["extra"], "update": {"clip_low": 0.1}}, {"from": 8, "update.clip_low": 0.3}],
    "compare": {"comparisons": ["extra - grpo"]},
}


def forked(at: int, *words: str, arms: list[str] | None = None, seeds: list[int] | None = None) -> dict[str, Any]:
    new, _ = changed(RAW, "y", at, changes_of(words), Selection(arms, seeds))
    experiment_of(new)
    return new


def test_changes_hold_from_the_iteration_on_and_before_a_later_entry() -> None:
    new = forked(5, "update.learning_rate=1e-4", "generate.group_size=4", "iterations=12", "retention.weights_every=2")
    assert new["schedule"][1] == {"from": 5, "update.learning_rate": 1e-4, "generate.group_size": 4}
    assert [entry["from"] for entry in new["schedule"]] == [3, 5, 8]
    assert (new["name"], new["iterations"], new["retention"]) == ("y", 12, {"weights_every": 2})
    experiment = experiment_of(new)
    for arm, before in (("grpo", 3e-4), ("extra", 1e-3)):
        assert experiment.at(arm, 4)["update"]["learning_rate"] == before
        assert experiment.at(arm, 5)["update"]["learning_rate"] == 1e-4
    assert [entry["from"] for entry in RAW["schedule"]] == [3, 8]


def test_a_later_entry_that_sets_the_same_key_is_noted() -> None:
    _, notes = changed(RAW, "y", 5, {"update.clip_low": 0.2}, Selection())
    assert notes == ["the schedule sets update.clip_low again from iteration 8 on."]
    assert experiment_of(forked(3, "update.clip_low=0.2")).at("extra", 3)["update"]["clip_low"] == 0.2


def test_from_the_start_a_change_is_one_of_every_arm() -> None:
    new = forked(0, "update.learning_rate=1e-4")
    assert {experiment_of(new).at(arm, 0)["update"]["learning_rate"] for arm in RAW["arms"]} == {1e-4}


def test_arms_and_seeds_are_chosen_with_what_names_them() -> None:
    new = forked(5, arms=["grpo"], seeds=[2])
    assert (list(new["arms"]), new["seeds"]) == (["grpo"], [2])
    assert new["schedule"] == [{"from": 8, "update.clip_low": 0.3}]
    assert new["compare"]["comparisons"] == []
    with pytest.raises(ConfigError, match="there is no arm 'exta'; the run has grpo, extra; did you mean `extra`"):
        forked(5, arms=["exta"])
    with pytest.raises(ConfigError, match="--seeds 7: the run has the seeds 0, 1, 2"):
        forked(5, seeds=[7])


@pytest.mark.parametrize(
    ("seeds", "starts"), [([1, 2], [8, 9]), ([0, 3], [7]), ([0, 1, 2, 3], [7, 8, 9]), ([1, 4], [8])]
)
def test_seeds_keep_their_initial_policies(seeds: list[int], starts: list[int]) -> None:
    raw = RAW | {"seeds": [0, 1, 2, 3, 4], "warm_starts": [7, 8, 9]}
    new, _ = changed(raw, "y", 5, {}, Selection(None, seeds))
    assert new["warm_starts"] == starts
    before, now = experiment_of(raw).run, experiment_of(new).run
    assert [now.warm_start_of(seed) for seed in seeds] == [before.warm_start_of(seed) for seed in seeds]


def test_seeds_whose_initial_policies_cannot_be_assigned_are_refused() -> None:
    raw = RAW | {"seeds": [0, 1, 2, 3], "warm_starts": [7, 8]}
    with pytest.raises(ConfigError, match="initial policies are 7, 8, 8, which `warm_starts` cannot assign in turn"):
        changed(raw, "y", 5, {}, Selection(None, [0, 1, 3]))


def test_malformed_changes() -> None:
    for words, reason in (("a", "expected KEY=VALUE"), ("a=[", "not a YAML value")):
        with pytest.raises(ConfigError, match=reason):
            changes_of([words])
    with pytest.raises(ConfigError, match="a is given twice"):
        changes_of(["a=1", "a=2"])
    with pytest.raises(ConfigError, match=r"schedule, from 5: seeds: cannot change within a run"):
        forked(5, "seeds=3")
