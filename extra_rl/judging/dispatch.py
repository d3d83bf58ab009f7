"""Judges responses by the task's own verifier: generated tasks in place, the others in killable processes."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

import mathjudge
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.answer import Answer
from extra_rl.judging.pool import judge_in_pool
from extra_rl.verdict import Judgement


def judge_answers(answers: Sequence[Answer], task: TaskConfig, verifier: VerifierConfig) -> list[Judgement]:
    """One judgement an answer, in order.

    Of a response longer than `verifier.max_chars` only the last `max_chars` characters are read; in mathematics only a
    box counts there, in reasoning_gym a closed tag (without one: verdict no_answer, rule too_long). Generated tasks
    replay steps of whole numbers, in time linear in the text, so they need no process of their own.
    """
    if task.name == "math":
        return _judge_math(answers, verifier)
    if task.name == "reasoning_gym":
        from extra_rl.judging.gym_judge import judge_gym

        return judge_gym(answers, task, verifier)
    from extra_rl.tasks.base import load_task

    judge = load_task(task).judge
    return [judge(a.problem, a.gold, a.response[-verifier.max_chars :], finished=a.finished) for a in answers]


def judge_rollouts(rows: pl.DataFrame, task: TaskConfig, verifier: VerifierConfig) -> list[Judgement]:
    """One judgement a row, in order.

    rows: `contracts.Rollouts` with `problem`, `metadata`, `gold` and tolerances of the problem that each is judged by.
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


def _judge_math(answers: Sequence[Answer], verifier: VerifierConfig) -> list[Judgement]:
    items = [
        mathjudge.Item(a.gold, a.response, not a.finished, a.relative_tolerance, a.absolute_tolerance) for a in answers
    ]
    return judge_in_pool(mathjudge.MathJudge(verifier.policy), items, verifier)
