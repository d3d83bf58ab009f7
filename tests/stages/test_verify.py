"""verify: a rollout is judged by its own problem's answer, wherever it stands."""

from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import ConfigError, ContractError
from extra_rl.judging import dispatch as judging
from extra_rl.tables import contracts
from stages import verify
from tests.stages.rows import Row, frame, problem, run_stage, tables_of

TRAIN = frame(
    contracts.Problems,
    [
        problem("seven", "3 4 :", "7"),
        problem("nine", "4 5 :", "9"),
        problem("two", "1 1 :", "2"),
    ],
)
THREE_PLUS_FOUR = Row("extra/s0/i0/0/0", problem_id="seven", response="3 + 4 = 7")


def judged(rows: list[Row], config: dict[str, object] | None = None) -> dict[str, dict[str, object]]:
    """rollout_id -> its row of the verify table."""
    rollouts = tables_of(rows)["generate"]
    table = run_stage(verify, {"rollouts": rollouts, "train": TRAIN}, config)["verify"]
    assert table["rollout_id"].to_list() == rollouts["rollout_id"].to_list()
    return {row["rollout_id"]: row for row in table.to_dicts()}


def fresh(name: str, problem_id: str, group: int, response: str = "1 + 1 = 2") -> Row:
    return Row(name, group_id=f"extra/s0/i1/{group}", problem_id=problem_id, response=response)


def mixed_batch() -> list[Row]:
    """Two fresh groups of other problems, then right continuations of `seven`, as `next_iteration` samples them."""
    continuation = THREE_PLUS_FOUR.continued("extra/s0/i1/i0.0/0", 3)
    return [fresh("a", "two", 0), fresh("b", "nine", 1), continuation]


def test_the_judgement_is_kept_with_its_evidence() -> None:
    row = judged([THREE_PLUS_FOUR])["extra/s0/i0/0/0"]
    assert (row["verdict"], row["gold"], row["reward"]) == ("right", "7", 1.0)
    assert row["extracted"] == "7"


def test_a_regenerated_rollout_is_graded_with_its_own_problems_answer() -> None:
    rows = mixed_batch()
    for order in (rows, rows[::-1]):
        row = judged(order)["extra/s0/i1/i0.0/0"]
        assert (row["gold"], row["verdict"], row["reward"]) == ("7", "right", 1.0)


def test_displaced_gold_grades_it_with_the_answer_of_a_fresh_group() -> None:
    rows = judged(mixed_batch(), {"gold": "displaced"})
    assert (rows["extra/s0/i1/i0.0/0"]["gold"], rows["extra/s0/i1/i0.0/0"]["verdict"]) == ("2", "wrong")
    assert rows["a"]["gold"] == "2"
    assert rows["b"]["gold"] == "9"


def test_displaced_gold_goes_through_the_fresh_groups_in_turn() -> None:
    continued = [THREE_PLUS_FOUR.continued(f"c{n}", 3, group_id=f"extra/s0/i0/{n}") for n in range(3)]
    rows = judged([fresh("a", "two", 0), fresh("b", "nine", 1), *continued], {"gold": "displaced"})
    assert [rows[f"c{n}"]["gold"] for n in range(3)] == ["2", "9", "2"]


def test_displaced_gold_without_fresh_groups_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="next_iteration"):
        judged([THREE_PLUS_FOUR.continued("c", 3)], {"gold": "displaced"})


def test_a_rollout_of_an_unknown_problem_stops_the_run() -> None:
    with pytest.raises(ContractError, match=r"1 rollout\(s\).*b with problem 'eleven'"):
        judged([fresh("a", "two", 0), fresh("b", "eleven", 1)])


@pytest.mark.parametrize(
    ("response", "finish_reason", "verdict"),
    [
        ("4 + 5 = 9", "stop", "wrong"),
        ("3 + 4 =", "length", "truncated"),
        ("", "stop", "no_answer"),
    ],
)
def test_what_is_not_right_has_a_name_and_no_reward(response: str, finish_reason: str, verdict: str) -> None:
    row = judged([Row("a", problem_id="seven", response=response, finish_reason=finish_reason)])["a"]
    assert (row["verdict"], row["reward"]) == (verdict, 0.0)


def test_a_verdict_that_is_excluded_has_a_null_reward_and_not_a_zero() -> None:
    rewards = {"truncated": None, "wrong": -0.5}
    rows = judged(
        [
            Row("cut", problem_id="seven", response="3 + 4 =", finish_reason="length"),
            Row("slip", problem_id="seven", response="3 + 4 = 8"),
            Row("good", problem_id="seven", response="3 + 4 = 7"),
        ],
        {"rewards": rewards},
    )
    assert {name: row["reward"] for name, row in rows.items()} == {"cut": None, "slip": -0.5, "good": 1.0}


@pytest.mark.parametrize("verdict", ["error", "gold_unparseable"])
def test_our_own_faults_are_excluded_by_default(verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from extra_rl.verdict import Judgement, Verdict

    def faulty(answers: list[object], *_: object) -> list[Judgement]:
        return [Judgement(Verdict(verdict), None, "planted") for _ in answers]

    monkeypatch.setattr(judging, "judge_answers", faulty)
    row = judged([THREE_PLUS_FOUR])["extra/s0/i0/0/0"]
    assert (row["verdict"], row["reward"]) == (verdict, None)


def test_no_rollouts_give_an_empty_table() -> None:
    tables = {"rollouts": contracts.Rollouts.create_empty(), "train": TRAIN}
    assert run_stage(verify, tables)["verify"].equals(contracts.Verdicts.create_empty())
    assert isinstance(contracts.Verdicts.create_empty(), pl.DataFrame)


def test_a_problems_own_tolerance_reaches_the_verifier() -> None:
    config = {"task": {"name": "math"}}
    rows = [problem(name, "q", "100") for name in ("exact", "relative", "absolute")]
    rows[1]["relative_tolerance"] = 0.01
    rows[2]["absolute_tolerance"] = 0.5
    rollouts = tables_of(
        [
            Row(f"{name}/{said}", group_id=f"g/{name}", problem_id=name, response=rf"\boxed{{{said}}}")
            for name in ("exact", "relative", "absolute")
            for said in ("100.4", "100.9")
        ]
    )["generate"]
    table = run_stage(verify, {"rollouts": rollouts, "train": frame(contracts.Problems, rows)}, config)["verify"]
    assert table["verdict"].to_list() == ["wrong", "wrong", "right", "right", "right", "wrong"]


def test_weights_make_the_reward_from_named_numbers() -> None:
    """By hand: 1 - 0.01 * 4 tokens = 0.96 for the correct one, -0.04 for the other; the truncated one -0.5 - 0.04."""
    rows = [
        Row("good", problem_id="seven", response="3 + 4 = 7", response_tokens=(1, 2, 3, 2)),
        Row("slip", problem_id="seven", response="3 + 4 = 8", response_tokens=(1, 2, 3, 2)),
        Row("cut", problem_id="seven", response="3 + 4 =", response_tokens=(1, 2, 3, 2), finish_reason="length"),
    ]
    found = judged(rows, {"weights": {"correct": 1, "length": -0.01, "truncated": -0.5}})
    assert {name: row["reward"] for name, row in found.items()} == pytest.approx(
        {"good": 0.96, "slip": -0.04, "cut": -0.54}
    )
    assert {name: row["verdict"] for name, row in found.items()} == {
        "good": "right",
        "slip": "wrong",
        "cut": "truncated",
    }
    assert found["cut"]["numbers"] == [
        {"name": "correct", "value": 0.0},
        {"name": "length", "value": 4.0},
        {"name": "truncated", "value": 1.0},
    ]


def test_without_weights_there_are_no_numbers() -> None:
    assert judged([THREE_PLUS_FOUR])["extra/s0/i0/0/0"]["numbers"] is None


def test_a_users_function_gives_verdicts_rewards_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "def graded(response, reference):\n    return {'correct': response == reference, 'size': len(response) / 10}\n"
    )
    (tmp_path / "verify_mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task = {"name": "signed_sum", "judge": "verify_mine:graded"}
    rows = [Row("a", problem_id="seven", response="7"), Row("b", problem_id="seven", response="12345")]
    for weights, rewards in (({}, [1.1, 0.5]), ({"correct": 2, "size": -1}, [1.9, -0.5])):
        found = judged(rows, {"task": task, "weights": weights})
        assert [row["reward"] for row in found.values()] == pytest.approx(rewards)
        assert [row["verdict"] for row in found.values()] == ["right", "wrong"]
        assert found["b"]["numbers"] == [{"name": "correct", "value": 0.0}, {"name": "size", "value": 0.5}]


def test_an_edited_judge_is_refused_where_the_job_names_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verify_mine.py").write_text("def graded(response): return 1\n")
    monkeypatch.chdir(tmp_path)
    tables = {"rollouts": tables_of([THREE_PLUS_FOUR])["generate"], "train": TRAIN}
    config = {"task": {"judge": "verify_mine:graded"}}
    with pytest.raises(ConfigError, match="was edited after this run was started"):
        run_stage(verify, tables, config, derived={"judge_source": "another"})
