"""Messages of Snakemake on the terminal: no noise, and one line for each failed job."""

from __future__ import annotations

import logging

import pytest

from stages.terminal import GOES_ON, Terminal

COMMAND = 'python -m stages --job \'{"stage":"update"}\' --input a=b --output c=d --log results/x/logs/update.log'


def shown(message: str, terminal: Terminal | None = None) -> str | None:
    """The message as it appears on the terminal; None if it is hidden."""
    terminal = terminal or Terminal()
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None)
    return record.getMessage() if terminal.is_shown(record) else None


def failed(end: str, command: str = COMMAND) -> str:
    return f"RuleException:\nCalledProcessError in file \"rules/iteration.smk\", line 4:\nCommand '{command}' {end}."


def test_repetitions_are_hidden_and_errors_are_shown() -> None:
    assert shown("Select jobs to execute...") is None
    assert shown("WorkflowError: missing input") == "WorkflowError: missing input"
    there = "Warning: the following output files of rule {} were not present when the DAG was created:\n{{'a'}}"
    assert shown(there.format("report")) is None  # one of `report.every`, which the last one replaces
    assert shown(there.format("update")) == there.format("update")


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


END = "WorkflowError:\nAt least one job did not complete successfully."


def test_the_last_line_of_a_failed_run_names_what_to_do() -> None:
    terminal = Terminal()
    assert shown(failed("returned non-zero exit status 2"), terminal) is not None
    assert shown("Exiting because a job execution failed. Look above for error messages", terminal) is None
    assert shown(END, terminal) == f"The run ended at the error above. {GOES_ON}"


@pytest.mark.parametrize("end", ["returned non-zero exit status 130", "died with <Signals.SIGINT: 2>"])
def test_an_interruption_is_no_error(end: str) -> None:
    terminal = Terminal()
    assert shown(failed(end), terminal) is None
    assert shown(END, terminal) == f"Interrupted. {GOES_ON}"


def test_an_interruption_between_two_jobs() -> None:
    terminal = Terminal()
    assert shown("Terminating processes on user request, this might take some time.", terminal) is None
    assert shown(END, terminal) == f"Interrupted. {GOES_ON}"


def test_an_unknown_target_is_named() -> None:
    said = shown("MissingRuleException:\nNo rule to produce sumary.json (if you use input functions make sure ...).")
    assert said is not None
    assert "sumary.json in this configuration" in said
    assert "input functions" not in said


def test_a_full_disk_under_snakemakes_records_is_one_line() -> None:
    terminal = Terminal()
    message = (
        "WorkflowError:\nError recording metadata for finished job ([Errno 28] No space left on device). Please ensure "
        "write permissions for the directory /x/.snakemake"
    )
    assert shown(message, terminal) == f"/x/.snakemake: cannot be written (No space left on device). {GOES_ON}"
    assert shown(message, terminal) is None
