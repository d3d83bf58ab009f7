"""What Snakemake need not say, because the stages say it themselves."""

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
    """Whether a log message of Snakemake's would only bury the stages' own lines."""
    return message.startswith(NOISE)
