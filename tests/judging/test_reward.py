"""Rewards of judgements: verdicts, numbers and weights, with values computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.errors import ConfigError
from extra_rl.judging.reward import RewardRule, as_list
from extra_rl.verdict import DEFAULT_REWARDS, Judgement, Scored, Verdict
from stages.experiment import experiment_of
from stages.verify import Config
from tests.config.test_config import MINIMAL

RIGHT, WRONG = Judgement(Verdict.RIGHT, "4", "r"), Judgement(Verdict.WRONG, "5", "r")
MIXED = Scored(Verdict.RIGHT, None, "r", {"correct": 2.0, "format": 0.5}, 2.5)
SINGLE = Scored(Verdict.WRONG, None, "r", {"score": 0.25}, 0.25)
GYM = Scored(Verdict.WRONG, "x", "tag/0.5", {"score": 0.5})
LATE, BROKEN = Judgement(Verdict.TIMEOUT, None, "time"), Judgement(Verdict.ERROR, None, "ValueError")


def reward(judgement: Judgement, weights: dict[str, float], length: int = 100, truncated: bool = False) -> Any:
    found = RewardRule(weights=weights)(judgement, length=length, truncated=truncated)
    return found.reward


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [(RIGHT, 1.0), (WRONG, 0.0), (MIXED, 2.5), (SINGLE, 0.25), (GYM, 0.0), (LATE, 0.0), (BROKEN, None)],
)
def test_without_weights(judgement: Judgement, expected: float | None) -> None:
    """A verdict has its reward, a number is the reward, named numbers are added; a library's score changes nothing."""
    assert reward(judgement, {}) == expected


@pytest.mark.parametrize(
    ("judgement", "weights", "expected"),
    [
        (RIGHT, {"correct": 1, "length": -0.001}, 1 - 0.1),
        (WRONG, {"correct": 1, "length": -0.001}, -0.1),
        (LATE, {"correct": 1, "length": -0.001}, -0.1),
        (BROKEN, {"correct": 1, "length": -0.001}, None),
        (MIXED, {"correct": 1, "format": 0.1}, 2 + 0.05),  # the judge's own `correct`
        (MIXED, {"format": -2}, -1.0),
        (SINGLE, {"score": 2, "correct": 1}, 0.5),  # not correct: 0.25 is below correct_at
        (GYM, {"score": 1}, 0.5),  # partial credit
        (Judgement(Verdict.NO_ANSWER, None, "none"), {"score": 1, "correct": 1}, 0.0),
        (RIGHT, {"truncated": -1}, 0.0),
    ],
)
def test_weights(judgement: Judgement, weights: dict[str, float], expected: float | None) -> None:
    found = reward(judgement, weights)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_a_truncated_response_is_known_by_its_end() -> None:
    assert reward(RIGHT, {"correct": 1, "truncated": -0.5}, truncated=True) == 0.5


def test_a_weighted_number_that_is_missing_is_an_error_of_its_row() -> None:
    found = RewardRule(weights={"correct": 1, "style": 1})(MIXED, length=1, truncated=False)
    assert (found.judgement.verdict, found.reward) == (Verdict.ERROR, None)
    assert found.judgement.rule == "returned no number style (verify.weights); it returned correct, format"
    assert RewardRule(weights={"style": 1})(LATE, length=1, truncated=False).judgement is LATE


def test_the_numbers_that_are_kept() -> None:
    kept = RewardRule(weights={"length": -0.001})(MIXED, length=7, truncated=False).numbers
    assert kept == {"correct": 2.0, "format": 0.5, "length": 7.0}
    assert RewardRule()(RIGHT, length=7, truncated=False).numbers == {}
    assert as_list({"b": 1.0, "a": 2.0}) == [{"name": "a", "value": 2.0}, {"name": "b", "value": 1.0}]
    assert as_list({}) is None


def test_errors_can_count_as_zero() -> None:
    rule = RewardRule({**DEFAULT_REWARDS, Verdict.ERROR: 0.0}, {"correct": 1, "length": -0.01})
    assert rule(BROKEN, length=10, truncated=False).reward == pytest.approx(-0.1)


def test_rewards_of_verdicts_and_weights_exclude_each_other() -> None:
    shared = {"task": {}, "verifier": {}}
    with pytest.raises(ValueError, match=r"rewards\.truncated: -0\.5 has no effect with `weights`"):
        Config.model_validate({**shared, "rewards": {"truncated": -0.5}, "weights": {"correct": 1}})
    Config.model_validate({**shared, "rewards": {"truncated": None, "error": 0}, "weights": {"correct": 1}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verify": {"weights": {"fromat": 1}}}, r"verify\.weights\.fromat: the judge of signed_sum returns no such"),
        ({"verify": {"weights": {"lenght": 1}}}, "did you mean `length`"),
        ({"verify": {"weights": {"a b": 1}}}, r"verify\.weights"),
        ({"verify": {"weights": {"correct": float("nan")}}}, r"verify\.weights"),
        ({"task": {"judge": ""}}, "name a judge"),
        ({"task": {"judge": "rewards.py:score"}}, r"write module:function, without \.py"),
        ({"task": {"judge": "a 'b"}}, "neither module:function nor a command line"),
        ({"task": {"judge": "reasoning_gym"}}, "judges only the items of the task reasoning_gym"),
        ({"task": {"name": "signed_sums"}}, "unknown task 'signed_sums'.*did you mean `signed_sum`"),
        ({"task": {"name": "a/b.py:C"}}, "unknown task"),
    ],
)
def test_mistakes_are_found_in_the_configuration(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment_of(MINIMAL | changes)


def test_a_judge_of_mathematics_for_a_generated_task_and_numbers_of_a_users_judge_are_accepted() -> None:
    experiment_of(MINIMAL | {"task": {"judge": "math"}, "verify": {"weights": {"correct": 1, "length": -0.001}}})
    experiment_of(MINIMAL | {"task": {"judge": "python judge.py"}, "verify": {"weights": {"anything": 1}}})
