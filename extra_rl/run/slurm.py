"""The Slurm jobs of a run: which are in the queue, and how they are cancelled or awaited.

Snakemake gives all jobs of one start the same name, which begins with a prefix that is made from the run's results
folder. The jobs of a run are therefore found after the Snakemake that submitted them has gone.

Source: the manual pages of squeue and scancel (Slurm 22.05).
"""

from __future__ import annotations

import getpass
import hashlib
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from extra_rl.errors import InputError

PENDING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
"""States of a job that has not started; every other job in the queue computes, or is just ending."""

FIELDS = "%i|%T|%M|%l|%N|%j|%r|%k"
"""Id, state, time used, time limit, nodes, name, reason and comment, which comes last because it is the user's text."""

COMMAND_SECONDS = 60
"""How long a command of Slurm may take: a busy controller answers late."""
ATTEMPTS = 5
POLL_SECONDS = 5.0
END_SECONDS = 120.0
"""How long cancelled jobs may take to end: Slurm sends SIGTERM, and SIGKILL after `KillWait` (30 s by default)."""


class SlurmJob(NamedTuple):
    """One job in the queue. work: the rule or group, and its wildcards, as the comment of the job names them."""

    id: str
    state: str
    used: str
    limit: str
    nodes: str
    reason: str
    work: str

    @property
    def waits(self) -> bool:
        """Whether the job has not started yet."""
        return self.state in PENDING

    def line(self) -> str:
        """One line about the job, for the terminal."""
        where = f"on {self.nodes}" if self.nodes else self.reason
        return f"  {self.id:<10} {self.state:<10} {self.used:>10} of {self.limit:<10} {where:<16} {self.work}"


def prefix_of(results: Path) -> str:
    """Return the beginning of the names of a run's jobs: letters, digits, `_` and `-`, at most 39 characters.

    results: the folder `results/<name>`. The digest of its place distinguishes checkouts that have runs of one name.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", results.name)[:24]
    return f"extra-{name}-{hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:8]}"


def jobs_of(results: Path) -> list[SlurmJob]:
    """Return the jobs of a run that are in the queue, oldest first. InputError where Slurm does not answer."""
    return parsed(_answer(["squeue", "--noheader", f"--user={getpass.getuser()}", f"--format={FIELDS}"]), results)


def parsed(lines: str, results: Path) -> list[SlurmJob]:
    """Return the jobs of a run from the lines of squeue, whose format is `FIELDS`."""
    found = []
    for line in lines.splitlines():
        identifier, state, used, limit, nodes, name, reason, comment = line.split("|", 7)
        if name.startswith(f"{prefix_of(results)}_"):
            work = comment.removeprefix("rule_").removeprefix("group_").replace("_wildcards_", " ")
            if "_" in identifier:  # the comment of an array is that of its first task
                work = f"{work.partition(' ')[0]} (task of an array)"
            found.append(SlurmJob(identifier, state, used, limit, nodes, reason, work))
    return sorted(found, key=lambda job: [int(number) for number in re.findall(r"\d+", job.id)])


def cancel(results: Path, jobs: Sequence[SlurmJob]) -> None:
    """Cancel jobs of a run and wait until they have left the queue. InputError where they stay for two minutes."""
    if not jobs:
        return
    ids = {job.id for job in jobs}
    _answer(["scancel", *sorted(ids)])
    deadline = time.monotonic() + END_SECONDS
    while left := [job for job in jobs_of(results) if job.id in ids]:
        if time.monotonic() > deadline:
            raise InputError(
                f"{len(left)} job(s) of {results} are still in the queue {END_SECONDS:.0f} s after scancel: "
                f"{', '.join(job.id for job in left)}. Ask `squeue --me`; run again when they have gone."
            )
        time.sleep(0.5)


def wait(results: Path, say: Callable[[str], None], poll: float = POLL_SECONDS) -> None:
    """Wait until the started jobs of a run have ended, and cancel those that have not started, also later ones.

    say: is called with one line whenever the number of awaited jobs changes. poll: seconds between two questions.
    """
    awaited = -1
    while jobs := jobs_of(results):
        cancel(results, [job for job in jobs if job.waits])
        running = [job for job in jobs if not job.waits]
        if running and len(running) != awaited:
            awaited = len(running)
            say(f"waiting for {awaited} job(s) of the previous start:\n" + "\n".join(job.line() for job in running))
        time.sleep(poll)


def _answer(command: Sequence[str]) -> str:
    """Return what a command of Slurm prints. InputError where it fails again and again, or does not exist."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(POLL_SECONDS)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except FileNotFoundError:
            raise InputError(f"{command[0]}: not found. This machine does not submit to Slurm.") from None
        except subprocess.TimeoutExpired:
            reason = f"no answer within {COMMAND_SECONDS} s"
            continue
        if done.returncode == 0:
            return done.stdout
        reason = done.stderr.strip() or f"exit status {done.returncode}"
    raise InputError(f"{command[0]}: Slurm does not answer ({reason}). Nothing was submitted; run again later.")
