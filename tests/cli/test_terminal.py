"""Messages of Snakemake on the terminal: no noise, and one line for each failed job."""

from __future__ import annotations

import logging

import pytest

from stages.terminal import is_shown

COMMAND = 'python -m stages --job \'{"stage":"update"}\' --input a=b --output c=d --log results/x/logs/update.log'


def shown(message: str) -> str | None:
    """The message as it appears on the terminal; None if it is hidden."""
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None)
    return record.getMessage() if is_shown(record) else None


def failed(end: str, command: str = COMMAND) -> str:
    return f"RuleException:\nCalledProcessError in file \"rules/iteration.smk\", line 4:\nCommand '{command}' {end}."


def test_repetitions_are_hidden_and_errors_are_shown() -> None:
    assert shown("Select jobs to execute...") is None
    assert shown("WorkflowError: missing input") == "WorkflowError: missing input"


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("returned non-zero exit status 3", "exit status 3"),
        ("died with <Signals.SIGTERM: 15>", "SIGTERM"),
        ("died with <Signals.SIGKILL: 9>", "memory runs out"),
    ],
)
def test_a_failed_job_is_one_line_with_its_end_and_its_log(end: str, how: str) -> None:
    line = shown(failed(end))
    assert line is not None
    assert "\n" not in line
    assert how in line
    assert line.endswith("results/x/logs/update.log")
    assert "--job" not in line


def test_a_command_that_names_no_log() -> None:
    assert shown(failed("returned non-zero exit status 1", "false")) == "A job failed (exit status 1)."
