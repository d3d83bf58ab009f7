"""Messages of Snakemake on the terminal: hidden where the stages print their own, shortened where a job failed."""

from __future__ import annotations

import logging
import re

NOISE = (
    "Using shell: ",
    "Conda environments: ignored",
    "Assuming unrestricted shared filesystem usage",
    "Select jobs to execute...",
    "Execute ",
    "Shutting down, this might take some time.",
    "Exiting because a job execution failed.",
    "Terminating processes on user request",
    "Ignore corrupted or currently written metadata record",
    "Touching output file ",
    "No SLURM account given, trying to guess.",
    "No account was given, not able to get a SLURM account via sacct",
    "Unable to guess SLURM account.",
    "Exception in run_job for rule ",  # the message on the failed job repeats it
)
FAILED = "RuleException:\nCalledProcessError"
"""How the message on a failed job begins. It goes on with the job's whole command line."""
AGAIN = "Trying to restart job"
NO_RULE = "MissingRuleException:\nNo rule to produce "
RECORDS = re.compile(
    r"Error recording metadata for finished job \(\[Errno \d+\] (.*?)\)\..* the directory (.*)", re.DOTALL
)
"""Snakemake could not write its records, of a full disk for example."""
END = "WorkflowError:\nAt least one job did not complete successfully."
REPLACED = re.compile(r"the following output files of rule report were not present when the DAG was created")
"""The reports during the run (`report.every`) have the name of the last one, which replaces them."""
GOES_ON = "What is finished is kept: the same command goes on from there."
INTERRUPTED = ("(exit status 130)", "(ended by SIGINT)")
"""How a job ends after Ctrl-C."""


class Terminal:
    """What a run has said so far, which decides what its last line says."""

    def __init__(self) -> None:
        self.interrupted = False
        self._records = ""

    def is_shown(self, record: logging.LogRecord) -> bool:
        """Return whether a record of Snakemake's logger is shown; some messages are rewritten in place."""
        if hasattr(record, "shellcmd") and record.levelno >= logging.ERROR:
            record.shellcmd = None  # of a job that failed on a cluster: several screens, and its log is named
        message = record.getMessage()
        new = self.rewritten(message)
        if new != message:
            record.msg, record.args = new, None
        return bool(new)

    def rewritten(self, message: str) -> str:
        """Return the message as it is shown; "" for one that is hidden."""
        if message.startswith(FAILED):
            line = failure(message)
            self.interrupted = any(end in line for end in INTERRUPTED)
            return "" if self.interrupted else line
        if message.startswith("Terminating processes on user request"):
            self.interrupted = True
        if message.startswith(NOISE) or REPLACED.search(message):
            return ""
        if message.startswith(AGAIN):
            return "This job is tried once more."
        if message.startswith(NO_RULE):
            file = message.removeprefix(NO_RULE).partition(" (if you use")[0]
            return (
                f"There is no rule or file {file} in this configuration. `snakemake --list` prints the rules; a file "
                "is named by its path, results/<name>/..."
            )
        if found := RECORDS.search(message):
            line = f"{found[2].strip()}: cannot be written ({found[1]}). {GOES_ON}"
            line, self._records = "" if line == self._records else line, line
            return line
        if message.startswith(END):
            return f"{'Interrupted' if self.interrupted else 'The run ended at the error above'}. {GOES_ON}"
        return message


def failure(message: str) -> str:
    """One line on a failed job: how its process ended and its log file.

    The failing stage has printed its own error above, unless a signal ended it: then this line is all that is said.
    message: that of Snakemake, which ends in `Command '...' returned non-zero exit status 1.` or `died with <...>.`
    """
    status = re.search(r"returned non-zero (exit status \d+)\.\s*\Z", message)
    signal = re.search(r"died with <Signals\.(\w+): \d+>\.\s*\Z", message)
    how = status[1] if status else f"ended by {signal[1] if signal else 'an unknown cause'}"
    if signal and signal[1] == "SIGKILL":
        how += ", which is also how the system ends a process when memory runs out"
    log = re.search(r"(?:--log|2>) ([^\s']+)", message)
    return f"A job failed ({how})." + (f" Its log: {log[1]}" if log else "")
