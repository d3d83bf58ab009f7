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
    "Touching output file ",
)
FAILED = "RuleException:\nCalledProcessError"
"""How the message on a failed job begins. It goes on with the job's whole command line."""


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether a record of Snakemake's logger is shown. The message on a failed job is shortened in place."""
    message = record.getMessage()
    if message.startswith(FAILED):
        record.msg, record.args = failure(message), None
    return not message.startswith(NOISE)


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
