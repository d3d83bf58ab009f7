"""Judging of answers to Reasoning Gym: extraction, threshold, limits, and answers that are programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extra_rl.config.sections import GymSetConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging import gym_library
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.judging.gym_record import from_json, to_json
from extra_rl.verdict import Judgement

pytest.importorskip("reasoning_gym", reason="the extra reasoning-gym is not installed")

from extra_rl.judging.gym_judge import extracted, is_arithmetic
from extra_rl.problems.gym_make import GymItemMade, item_of


def item(dataset: str, **config: Any) -> GymItemMade:
    chosen = GymSetConfig(dataset=dataset, config=config, size=1)
    return item_of("s", chosen, gym_library.make("s", dataset, config, size=1, seed=0), 0)


def judged(made: GymItemMade, *responses: str, finished: bool = True, right_from: float = 0.99, **limits: Any) -> Any:
    dataset = from_json(made.record or "")["dataset"]
    task = TaskConfig(name="reasoning_gym", sets={"s": GymSetConfig(dataset=dataset)}, right_from=right_from)
    answers = [Answer(made.question, made.oracle or "", text, finished, metadata=made.record) for text in responses]
    return judge_answers(answers, task, VerifierConfig(**limits))


def test_records_are_restored_exactly() -> None:
    value = {
        "a": (1, [2, (3,)]),
        "b": {1: {2, 3}, (4, 5): None},
        "!": {"!": "tuple", "of": []},
        "c": [float("inf"), frozenset({"x"}), True, 0.1],
    }
    back = from_json(to_json(value))
    assert back == value
    assert type(back["a"]) is tuple
    assert type(back["a"][1][1]) is tuple
    assert type(back["c"][1]) is frozenset
    with pytest.raises(TypeError, match="complex"):
        to_json({"a": 1j})


@pytest.mark.parametrize(
    ("response", "where", "answer"),
    [
        ("<answer>1</answer> or <answer> 2 </answer>", "tag", "2"),
        ("Answer: 3\n<answer>4</answer>", "tag", "4"),
        ("<answer></answer>\n5", "tag", None),
        ("The answer is 6.", "phrase", "6"),
        ("answer is 1\n**Answer:** 7 8\n9 1", "phrase", "7 8\n9 1"),
        ("so\nAnswer:  ", "phrase", None),
        ("first\n\n 10 \n\n", "last_line", "10"),
        (" \n ", "none", None),
        ("<answer>11", "last_line", "<answer>11"),
    ],
)
def test_where_the_answer_is_found(response: str, where: str, answer: str | None) -> None:
    assert extracted(response, truncated=False) == (where, answer)


def test_only_a_closed_tag_counts_in_a_truncated_response() -> None:
    assert extracted("Answer: 12", truncated=True) == ("none", None)
    assert extracted("<answer>12</answer> and", truncated=True) == ("tag", "12")


def test_verdicts() -> None:
    made = item("chain_sum")
    oracle = made.oracle
    found = judged(made, f"<answer>{oracle}</answer>", f"Answer: {oracle}", f"x\n{oracle}", "<answer>1</answer>", "")
    assert [j.verdict.value for j in found] == ["right", "right", "right", "wrong", "no_answer"]
    assert [j.rule for j in found] == ["tag/1", "phrase/1", "last_line/1", "tag/0", "none"]
    assert found[0].extracted == oracle
    cut = judged(made, f"Answer: {oracle}", f"<answer>{oracle}</answer> so", finished=False)
    assert [j.verdict.value for j in cut] == ["truncated", "right"]
    long = judged(made, f"Answer: {oracle}" + " " * 200, max_chars=100)
    assert long == [Judgement(long[0].verdict, None, "too_long")]
    assert long[0].verdict.value == "no_answer"


def test_partial_credit_is_correct_at_the_threshold_and_above() -> None:
    made = item("chain_sum")
    twice = f"<answer>{made.oracle} {made.oracle}</answer>"  # the library: len(oracle) / len(answer)
    share = len(made.oracle or "") / (2 * len(made.oracle or "") + 1)
    assert [j.verdict.value for j in judged(made, twice, right_from=share + 0.01)] == ["wrong"]
    assert [j.verdict.value for j in judged(made, twice, right_from=share - 0.01)] == ["right"]


def test_a_hanging_scorer_is_a_timeout_and_a_failing_one_an_error() -> None:
    bomb = "<answer>9**9**9**9</answer>"
    sums = item("puzzle24")
    found = judged(sums, bomb, f"<answer>{sums.oracle}</answer>", timeout_s=2.0)
    assert [j.verdict.value for j in found] == ["timeout", "right"]
    (failed,) = judged(item("prime_factorization"), "<answer>two times three</answer>")
    assert (failed.verdict.value, failed.rule) == ("error", "ValueError")


@pytest.mark.parametrize("dataset", sorted(d for d, kind in gym_library.EVALUATION.items() if kind != "own"))
def test_answers_are_never_run_as_programs(dataset: str, tmp_path: Path) -> None:
    victim = tmp_path / "written"
    call = f"open('{victim}', 'w').write('x')"
    programs = [call, f"[{call}]", f"eval(chr(40)) + {call}", f"1\n.__class__ + {call}", f"(lambda: {call})()"]
    found = judged(item(dataset), *(f"<answer>{text}</answer>" for text in programs))
    assert {j.verdict.value for j in found} == {"wrong"}
    assert not victim.exists()


def test_lists_have_the_score_of_the_library() -> None:
    made = item("spiral_matrix")
    as_list = str([int(word) for word in (made.oracle or "").split()])
    assert [j.rule for j in judged(made, f"<answer>{as_list}</answer>")] == ["tag/0.1"]


@pytest.mark.parametrize("text", ["2*(3 + 4)/7.5 - x**2", "sin(x)*exp(-x) + C", "long + 1", "5!", "1.e5"])
def test_arithmetic_is_allowed(text: str) -> None:
    assert is_arithmetic(text, "long + x")


@pytest.mark.parametrize(
    "text",
    ["a.b", "1..real", "1. .real", "'x'", "x[0]", "open(1)", "exit()", "_", "x = 1", "ｅval(1)", "1;2", "1.5.real"],
)
def test_anything_else_is_refused(text: str) -> None:
    assert not is_arithmetic(text, "x + 1")


def test_every_module_that_evaluates_text_is_known() -> None:
    found = {name: gym_library.evaluating(made_by) for name, (made_by, _) in gym_library._registered().items()}
    evaluating = {name for name, used in found.items() if used}
    assert evaluating == set(gym_library.EVALUATION) | {"codeio"}


def test_config_errors_name_the_set_and_similar_names() -> None:
    def message(dataset: str, **config: Any) -> str:
        with pytest.raises(ConfigError, match=r"task\.sets\.mine") as caught:
            gym_library.make("mine", dataset, config, size=1, seed=0)
        return str(caught.value)

    assert "chain_sum" in message("chainsum")
    assert "no key terms" in message("chain_sum", terms=2)
    assert "max_terms" in message("chain_sum", min_terms=3, max_terms=2)
    assert "does not accept" in message("chain_sum", min_terms="x")
    assert "language model" in message("codeio")


def test_a_missing_package_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    made = item("chain_sum")
    monkeypatch.setattr(gym_library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install reasoning-gym"):
        judged(made, "1")
