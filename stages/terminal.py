"""Log messages of Snakemake that the workflow hides, because the stages print their own."""

from __future__ import annotations

NOISE = (
    "Using shell: ",
    "Conda environments: ignored",
    "Assuming unrestricted shared filesystem usage",
    "Select jobs to execute...",
    "Execute ",
    # The failing stage has printed its own message; this one repeats its whole command line.
    "RuleException:\nCalledProcessError",
)


def is_noise(message: str) -> bool:
    """Return whether a log message of Snakemake only repeats what the stages print."""
    return message.startswith(NOISE)
