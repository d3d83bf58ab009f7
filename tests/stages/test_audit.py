"""audit: the rows on which a second judge says otherwise about right or not, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import ConfigError, ContractError, InputError
from extra_rl.tables import contracts
from stages import audit
from tests.stages.rows import Row, frame, problem, run_stage, tables_of

TRAIN = frame(contracts.Problems, [problem("seven", "3 4 :", "7"), problem("half", r"1 \over 2", r"\frac12")])
BY_VALUE = {"verdict": "right", "extracted": "0.5"}
MATH = {"task": {"name": "math"}}
ROWS = [
    Row("a", group_id="g0", problem_id="half", gold="1/2", response=r"so \boxed{0.5}", **BY_VALUE),
    Row(
        "b", group_id="g1", problem_id="half", gold="1/2", response=r"so \boxed{1/2}", verdict="right", extracted="1/2"
    ),
    Row("c", group_id="g1", problem_id="half", gold="1/2", response=r"so \boxed{1/3}", extracted="1/3"),
    Row("d", group_id="g2", problem_id="seven", response=r"so \boxed{7}", verdict="error"),
    Row("e", group_id="g2", problem_id="seven", response="so", verdict="truncated", finish_reason="length"),
]


def audited(rows: list[Row], config: dict[str, object]) -> pl.DataFrame:
    tables = tables_of(rows)
    given = {"rollouts": tables["generate"], "verify": tables["verify_generate"], "train": TRAIN}
    return run_stage(audit, given, config, outputs={"audit": Path("audit_generate.parquet")})["audit"]


def test_only_disagreements_are_kept_with_both_judgements(capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(ROWS, {"judge": "string", **MATH})
    assert found.to_dicts() == [
        {
            "rollout_id": "a",
            "problem_id": "half",
            "gold": "1/2",
            "first_verdict": "right",
            "first_extracted": "0.5",
            "first_rule": "by hand",
            "second_verdict": "wrong",
            "second_extracted": "0.5",
            "second_rule": "string",
            "response": r"so \boxed{0.5}",
        },
        {
            "rollout_id": "d",
            "problem_id": "seven",
            "gold": "7",
            "first_verdict": "error",
            "first_extracted": None,
            "first_rule": "by hand",
            "second_verdict": "right",
            "second_extracted": "7",
            "second_rule": "string",
            "response": r"so \boxed{7}",
        },
    ]
    assert capsys.readouterr().out.splitlines()[-1] == (  # a progress line comes before it on a slow machine
        "audit_generate: string judged 5 rollouts and disagrees on 2: 1 correct for the first judge only, "
        "1 for the second only"
    )


def test_another_judge_disagrees_on_other_rows() -> None:
    assert audited(ROWS, {"judge": "sympy_only", **MATH})["rollout_id"].to_list() == ["d"]


def test_the_reference_answer_is_that_of_the_first_judgement() -> None:
    """A regenerated rollout graded with a displaced gold: the problem's own answer is 7."""
    found = audited([Row("a", problem_id="seven", gold="8", response=r"\boxed{8}")], {"judge": "string", **MATH})
    assert found.select("gold", "second_verdict").row(0) == ("8", "right")


def test_a_lucky_number_of_a_generated_task_is_a_disagreement() -> None:
    found = audited([Row("a", problem_id="seven", response="2 + 2 = 7", extracted="7")], {"judge": "string"})
    assert found.select("first_verdict", "second_verdict").row(0) == ("wrong", "right")


def test_a_command_receives_the_prompt_as_the_model_read_it(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        "import json, sys\n"
        "for row in map(json.loads, sys.stdin):\n"
        "    verdict = 'right' if row['truncated'] and row['problem'] == '3 4 :' else 'wrong'\n"
        "    print(json.dumps({'id': row['id'], 'verdict': verdict, 'extracted': 'x', 'rule': 'mine'}))\n"
    )
    found = audited(ROWS, {"judge": f"{sys.executable} {tmp_path}/judge.py", "timeout_s": 60})
    assert found.select("rollout_id", "second_verdict", "second_rule").rows() == [
        ("a", "wrong", "mine"),
        ("b", "wrong", "mine"),
        ("e", "right", "mine"),
    ]


def test_a_failing_command_stops_the_stage_and_is_named() -> None:
    with pytest.raises(InputError, match="the judge `false` ended with exit code 1"):
        audited(ROWS, {"judge": "false"})


def test_a_missing_judge_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"audit\.judge is none"):
        audited(ROWS, {})


@pytest.mark.parametrize(("section", "message"), [({"judge": ""}, "name a judge"), ({"timeout_s": 0}, "timeout_s")])
def test_an_invalid_section_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        audited(ROWS, section)


def test_no_rollouts_give_an_empty_table() -> None:
    assert audited([], {"judge": "string"}).equals(contracts.Disagreements.create_empty())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verify": contracts.Verdicts.create_empty()}, r"1 rollout\(s\) have no row in verify, first a"),
        ({"train": TRAIN.head(1)}, r"1 rollout\(s\) have no row in train, first a with problem 'half'"),
    ],
)
def test_files_of_different_runs_are_refused(change: dict[str, pl.DataFrame], message: str) -> None:
    tables = tables_of(ROWS[:1])
    given = {"rollouts": tables["generate"], "verify": tables["verify_generate"], "train": TRAIN} | change
    with pytest.raises(ContractError, match=message):
        run_stage(audit, given, {"judge": "string"}, outputs={"audit": Path("audit_generate.parquet")})
