"""Judging by the judge that the section `task` names (`task.judge`), by default that of the task itself.

Generated tasks of this library are judged in this process, everything else in killable processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

import mathjudge
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import InputError
from extra_rl.judging.pool import judge_in_pool
from extra_rl.user_code import is_reference
from extra_rl.verdict import Judgement, Verdict

FAULTS = (Verdict.ERROR, Verdict.TIMEOUT)
"""Verdicts that a judge which fails leads to."""
FEW = 8
"""In a table of fewer responses all judgements may fail by chance, so the run goes on with a warning."""


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
        tokens: of the response; a user's judge gets them.
    """

    problem: str
    gold: str
    response: str
    finished: bool
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    metadata: str | None = None
    tokens: tuple[int, ...] = ()


def judge_answers(
    answers: Sequence[Answer],
    task: TaskConfig,
    verifier: VerifierConfig,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the judgement of each answer, in order; one with numbers is a `Scored`.

    Only the last `verifier.max_chars` characters of a longer response are read. In them only a box counts for
    mathematics and only a closed tag for reasoning_gym; without one, the verdict is no_answer and the rule too_long.
    A user's judge gets the whole response. The generated tasks of this library replay steps of whole numbers in time
    linear in the text, so they need no separate process.

    Args:
        answers: of one task.
        task: selects the judge.
        verifier: policy and limits.
        progress: called with 1 for each judged answer of a judge that runs in separate processes.

    Raises ConfigError if the package of reasoning_gym is missing, InputError if no worker can start.
    """
    if not answers:
        return []
    if task.mathematics:
        return _judge_math(answers, verifier, progress)
    if judged_by_user(task):
        return _judge_by_user(answers, task, verifier, progress)
    if task.name == "reasoning_gym":
        return _judge_gym(answers, task, verifier, progress)
    from extra_rl.tasks.load import load_task

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
            tuple(row["response_tokens"]),
        )
        for row in rows.iter_rows(named=True)
    ]
    return judge_answers(answers, task, verifier)


def judged_by_user(task: TaskConfig) -> bool:
    """Return whether a user's function, command or task judges the responses."""
    return is_reference(task.name) if task.judge == "own" else task.judge not in ("math", "reasoning_gym")


def user_code_of(task: TaskConfig) -> str:
    """Return what judges the responses, as the configuration names it: a judge's name, function, task or command."""
    return task.name if task.judge == "own" else task.judge


def faults_of_judge(
    judgements: Sequence[Judgement], names: Sequence[str], task: TaskConfig, weights: Mapping[str, float] | None = None
) -> str:
    """Return one line about the responses that a user's judge could not judge; "" for none, or another judge.

    Args:
        judgements: of one table.
        names: of the responses, in the same order.
        task: names the judge.
        weights: of numbers, which any judge may lack.

    Raises InputError where the judge failed on all of FEW or more responses: the run would learn nothing, so it stops.
    """
    found = [(name, j) for name, j in zip(names, judgements, strict=True) if j.verdict in FAULTS]
    if not found or not (judged_by_user(task) or weights):
        return ""
    counts = {verdict: sum(j.verdict is verdict for _, j in found) for verdict in FAULTS}
    judge = user_code_of(task)
    name, first = found[0]
    what = (
        f"{len(found)} of {len(judgements)} responses could not be judged by {judge} "
        f"({', '.join(f'{verdict.value} {count}' for verdict, count in counts.items() if count)}); first {name}: "
        f"{first.verdict.value}, {first.rule}"
    )
    if len(found) == len(judgements) >= FEW:
        raise InputError(
            f"{what}. No response got a verdict, so there is nothing to learn from. Correct the judge and run the same "
            "command again: an edit of its file judges the responses again, and nothing is sampled anew."
        )
    return what


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


def _judge_by_user(
    answers: Sequence[Answer],
    task: TaskConfig,
    verifier: VerifierConfig,
    progress: Callable[[int], object] | None,
) -> list[Judgement]:
    from extra_rl.judging.command_judge import judge_responses_by_command
    from extra_rl.judging.function import FunctionItem, judge_by_function

    items = [FunctionItem(a.problem, a.gold, a.response, not a.finished, a.tokens, a.metadata) for a in answers]
    own, reference = task.judge == "own", user_code_of(task)
    if not is_reference(reference):
        seconds = verifier.timeout_s * len(items)
        return judge_responses_by_command(
            reference, items, timeout_s=seconds, correct_at=task.correct_at, progress=progress
        )
    return judge_by_function(reference, items, verifier, correct_at=task.correct_at, task=own, progress=progress)
