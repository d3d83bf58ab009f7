"""Judging by the verifier of the task: generated tasks in this process, the others in killable processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

import mathjudge
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.pool import judge_in_pool
from extra_rl.verdict import Judgement


@dataclass(frozen=True)
class Answer:
    """A response and what a verifier needs to judge it.

    Args:
        problem: the problem's text.
        gold: the reference answer.
        finished: whether the response ended by itself instead of at the token limit.
        relative_tolerance, absolute_tolerance: the error that this problem allows in a number, 0 for none. The larger
            of these and the policy's tolerances applies. Generated tasks have none.
        metadata: JSON with anything else that the task's verifier needs.
    """

    problem: str
    gold: str
    response: str
    finished: bool
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    metadata: str | None = None


def judge_answers(
    answers: Sequence[Answer],
    task: TaskConfig,
    verifier: VerifierConfig,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the judgement of each answer, in order.

    Only the last `verifier.max_chars` characters of a longer response are read. In them only a box counts for
    mathematics and only a closed tag for reasoning_gym; without one, the verdict is no_answer and the rule too_long.
    Generated tasks replay steps of whole numbers in time linear in the text, so they need no separate process.

    Args:
        answers: of one task.
        task: selects the verifier.
        verifier: policy and limits.
        progress: called with 1 for each judged answer of a task whose verifier runs in separate processes.

    Raises ConfigError if the package of reasoning_gym is missing, InputError if no worker can start.
    """
    if task.name == "math":
        return _judge_math(answers, verifier, progress)
    if task.name == "reasoning_gym":
        return _judge_gym(answers, task, verifier, progress)
    from extra_rl.tasks.base import load_task

    judge = load_task(task).judge
    return [judge(a.problem, a.gold, a.response[-verifier.max_chars :], finished=a.finished) for a in answers]


def judge_rollouts(rows: pl.DataFrame, task: TaskConfig, verifier: VerifierConfig) -> list[Judgement]:
    """Return the judgement of each row, in order.

    rows: `contracts.Rollouts` with `problem`, `metadata`, `gold` and tolerances of the problem that judges the row.
    """
    answers = [
        Answer(
            row["problem"],
            row["gold"],
            row["response"],
            row["finish_reason"] == "stop",
            row["relative_tolerance"],
            row["absolute_tolerance"],
            row["metadata"],
        )
        for row in rows.iter_rows(named=True)
    ]
    return judge_answers(answers, task, verifier)


def _judge_math(
    answers: Sequence[Answer], verifier: VerifierConfig, progress: Callable[[int], object] | None
) -> list[Judgement]:
    items = [
        mathjudge.Item(a.gold, a.response, not a.finished, a.relative_tolerance, a.absolute_tolerance) for a in answers
    ]
    return judge_in_pool(mathjudge.MathJudge(verifier.policy), items, verifier, progress=progress)


def _judge_gym(
    answers: Sequence[Answer],
    task: TaskConfig,
    verifier: VerifierConfig,
    progress: Callable[[int], object] | None,
) -> list[Judgement]:
    from extra_rl.judging.gym_judge import GymItem, judge_gym

    items = [GymItem(a.gold, a.response, not a.finished, a.metadata or "") for a in answers]
    return judge_gym(items, task, verifier, progress)
