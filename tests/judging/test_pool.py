"""The boundary to `mathjudge`: its verdicts are those of the pipeline, and its errors are converted."""

from __future__ import annotations

import pytest

import mathjudge
from extra_rl.config.sections import VerifierConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.judging.audit import string
from extra_rl.judging.pool import judge_in_pool, mathjudge_errors_as
from extra_rl.verdict import Judgement, Verdict


def test_the_verdicts_are_the_same() -> None:
    assert {Verdict(verdict.value) for verdict in mathjudge.Verdict} == set(Verdict)


def test_the_pool_returns_the_type_of_the_pipeline() -> None:
    (found,) = judge_in_pool(string, [mathjudge.Item("7", r"\boxed{7}")], VerifierConfig())
    assert found == Judgement(Verdict.RIGHT, "7", "string")
    assert type(found.verdict) is Verdict


def test_a_worker_that_cannot_start_is_an_error_of_the_library() -> None:
    with pytest.raises(InputError, match="cannot be pickled"):
        judge_in_pool(lambda item: string(item), [mathjudge.Item("7", "7")], VerifierConfig())


def test_the_message_is_unchanged() -> None:
    with pytest.raises(ConfigError, match=r"^--policy: no such key$"), mathjudge_errors_as(ConfigError):
        raise mathjudge.MathJudgeError("--policy: no such key")
