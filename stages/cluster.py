"""What the Snakemake on the login node does differently when the jobs of a run are submitted to a cluster.

- Before it plans, it holds the run's lock, and takes over from an earlier Snakemake whose jobs are still in the queue.
- Its jobs read the configuration that the run has frozen in its results, not the file that the user may edit meanwhile.
- Some properties of the Slurm executor (snakemake-executor-plugin-slurm 2.8) are corrected: with sacct it does not
  recognise a cancelled job (`CANCELLED by 1000`); it lets up to three minutes pass between two looks at the queue; it
  does not repeat why Slurm has ended a job; and it holds back jobs of an array until all that are ready have arrived,
  which never happens where `jobs` allows fewer: the run then waits for ever.
- Snakemake's records of files that a submitted job makes again are removed when it is submitted.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from extra_rl.errors import ConfigError, InputError
from extra_rl.run import lock, slurm
from extra_rl.run.configuration import CONFIGURATION_FILE, keeps
from extra_rl.worker import INTERRUPTED
from stages.experiment import whole_configuration

EXECUTOR = "snakemake_executor_plugin_slurm"
SLOWEST_POLL = 3
"""Longest time between two looks at the queue, as a multiple of the shortest (init-seconds-before-status-checks)."""

SELECTION = ("arms", "seeds")
REASONS = re.compile(
    r"DUE TO (TIME LIMIT|PREEMPTION|NODE FAILURE)|[Oo]ut.of.memory|oom.kill|CANCELLED AT|^(\w[\w ]*: )?\w+Error: "
)
OF_THE_USER = re.compile(r"(^|: )(Config|Contract|Numerical|NoSignal)Error: ")
"""Errors that a second attempt would only repeat."""
REFUSED = re.compile(r"account \S+ appears to be invalid|[Ii]nvalid (account|partition|qos)")
"""How the executor or sbatch refuses a job that would be refused again."""
UNSAID = " Detailed failure reason unavailable (status command is not 'sacct')."
LOG_BYTES = 65_536
"""How much of the end of a job's log is searched for the reason of its end."""
REASONS_SHOWN = 3
DETAILS_SHOWN = 6
"""Lines of one reason: an error may list several mistakes, indented."""
SUBMITTED = ".slurm"
"""File in the results of a run whose jobs were submitted to Slurm, which is therefore asked for them."""

MEANINGS = {
    "TIMEOUT": "It was out of time. The next attempt gets more, as `runtime` in the profile says; finished files stay.",
    "OUT_OF_MEMORY": "It was out of memory. The next attempt gets more, as `mem_mb` in the profile says.",
    "CANCELLED": "It was cancelled, not by this Snakemake.",
    "NODE_FAIL": "Its node failed.",
    "PREEMPTED": "Another job took its place.",
}


def submits(workflow: Any) -> bool:
    """Whether jobs run elsewhere: in the main process of a run on a cluster, also of its dry run, and in its jobs.

    It is asked while the Snakefile is read, when Snakemake has not yet named the executor: only one that submits has a
    number of jobs that differs from its cores.
    """
    return not workflow.is_main_process or workflow.resource_settings.nodes is not None


def uses_slurm(workflow: Any) -> bool:
    """Whether the jobs of a planned run are submitted to Slurm; not in a dry run."""
    return type(workflow.executor_settings).__module__ == EXECUTOR and not workflow.dryrun and not workflow.local_exec


def require_cluster(workflow: Any) -> None:
    """ConfigError where a run was planned as for a cluster, but its jobs would run on this machine."""
    if workflow.local_exec and not workflow.dryrun and not workflow.touch:
        raise ConfigError("--jobs and --cores are both given: name --cores N on one machine, --jobs N on a cluster.")


def prepare(workflow: Any, results: Path, raw: Any) -> None:
    """Hold the run's lock, correct the executor, and take over what an earlier Snakemake has left in the queue.

    Call it in the main process, before the run is planned: files that awaited jobs finish are then part of the plan.

    Args:
        workflow: Snakemake's.
        results: the folder `results/<name>`.
        raw: the configuration as Snakemake has merged it.
    """
    lock.hold(results)
    if uses_slurm(workflow):
        (results / SUBMITTED).touch()
        correct_executor(sys.modules[EXECUTOR])
        settings = workflow.executor_settings
        settings.jobname_prefix = settings.jobname_prefix or slurm.prefix_of(results)
        take_over(results, whole_configuration(raw, workflow.configfiles))


def refuse_other_writers(results: Path) -> None:
    """InputError where jobs of a cluster still write the results of a run that starts on this machine.

    Jobs outlive a Snakemake that was killed. Those of `granularity: run` hold the lock of their arm and seed.
    """
    if (results / SUBMITTED).exists() and shutil.which("squeue"):
        jobs = slurm.jobs_of(results)
        if jobs:
            raise InputError(
                f"{results}: {len(jobs)} job(s) of an earlier start are in Slurm's queue, {jobs[0].id} for example. "
                f"Wait for them (`extra slurm jobs {results}`), or end them (`extra slurm cancel {results}`)."
            )
    for path in sorted(results.glob(f"*/s*/{lock.LOCK_NAME}")):
        lock.hold(path.parent)


def take_over(results: Path, configuration: Any) -> None:
    """Let the jobs of an earlier Snakemake end, so that nothing is submitted twice and nothing written by two.

    Jobs that wait in the queue are cancelled. Those that run are awaited, because their files count; with another
    configuration they would make other files, and are cancelled.
    """
    jobs = slurm.jobs_of(results)
    if not jobs:
        return
    same = keeps(configuration, results)
    running = [job for job in jobs if not job.waits]
    fate = "awaited" if same else "cancelled, because the configuration has changed"
    parts = [(len(jobs) - len(running), "waiting job(s) cancelled"), (len(running), f"running one(s) {fate}")]
    what = ", ".join(f"{count} {what}" for count, what in parts if count)
    say(f"NOTE: {results}: {len(jobs)} job(s) of the previous start are in the queue: {what}.")
    try:
        slurm.cancel(results, [job for job in jobs if job.waits or not same])
        slurm.wait(results, say)
    except KeyboardInterrupt:
        say(f"Interrupted. Jobs that run go on: `extra slurm jobs {results}`, `extra slurm cancel {results}`.")
        sys.exit(INTERRUPTED)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, file=sys.stderr, flush=True)


def freeze(workflow: Any, results: Path) -> None:
    """Let the jobs that are submitted from here on read the configuration in the results of the run."""
    workflow.config_settings.configfiles = [results / CONFIGURATION_FILE]
    words = workflow.config_settings.config_args or []
    workflow.config_settings.config_args = [word for word in words if word.partition("=")[0] in SELECTION]


def correct_executor(plugin: Any) -> None:
    """Correct the Slurm executor (see above), once in a process.

    Raises ConfigError where the installed version has other functions.
    """
    executor: Any = getattr(plugin, "Executor", None)
    query: Any = getattr(plugin, "query_job_status", None)
    if not all((query, hasattr(plugin, "pending_jobs_for_rule"), hasattr(executor, "check_active_jobs"))):
        raise ConfigError(f"{EXECUTOR}: unknown version; install snakemake-executor-plugin-slurm>=2.8,<3.")
    if getattr(plugin, "corrected_by_extra", False):
        return
    plugin.corrected_by_extra = True
    plugin.query_job_status = with_plain_states(query)
    plugin.pending_jobs_for_rule = lambda dag, rule_name: 0  # an array is what is ready now
    executor.check_active_jobs = with_frequent_polls(executor.check_active_jobs)
    executor.report_job_error = with_reasons(executor.report_job_error)
    executor.run_job_pre = forgetting_records(executor.run_job_pre)


def with_plain_states(query: Callable[..., Any]) -> Callable[..., Any]:
    """Return the query of states, by job, without what sacct adds to a state: `CANCELLED by 1000`, `CANCELLED+`."""

    async def plain(command: str, logger: Any) -> tuple[Any, Any]:
        states, seconds = await query(command, logger)
        return states and {job: state.split()[0].rstrip("+") for job, state in states.items() if state}, seconds

    return plain


def with_frequent_polls(check: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that looks at the queue, after which the next look is at most `SLOWEST_POLL` times later."""

    async def checked(self: Any, active_jobs: Any) -> AsyncIterator[Any]:
        async for job in check(self, active_jobs):
            yield job
        longest = SLOWEST_POLL * self.workflow.executor_settings.init_seconds_before_status_checks
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, longest)

    return checked


def forgetting_records(announce: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that announces a job, which first removes Snakemake's records of the job's outputs.

    They are of an earlier job, perhaps with other settings, and are replaced when this one has ended. If this Snakemake
    is killed before that, the next one awaits the job, and an old record would discard what it has made.
    """

    def announced(self: Any, job: Any) -> Any:
        for one in job.jobs if job.is_group() else [job]:
            for path in one.output:
                self.workflow.persistence.cleanup_metadata(path)
        return announce(self, job)

    return announced


def with_reasons(report: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that reports a failed job, whose message also says why, from the job's state and log."""

    def reported(self: Any, job_info: Any, msg: str | None = None, **settings: Any) -> Any:
        state = re.search(r"SLURM status is: '(\w+)", msg or "")
        log = (job_info.aux or {}).get("slurm_logfile")
        found = reasons_in(Path(log)) if log else []
        if REFUSED.search(msg or "") or any(OF_THE_USER.search(line) for line in found):
            do_not_repeat(job_info.job)
        given = (msg or "").partition("\n    sbatch call:")[0].replace(UNSAID, "")
        lines = filter(None, [given, MEANINGS.get(state[1], "") if state else "", *found])
        return report(self, job_info, msg="\n  ".join(lines) + "\n", **settings)

    return reported


def do_not_repeat(job: Any) -> None:
    """Let Snakemake not try a failed job again."""
    for one in job.jobs if job.is_group() else [job]:
        one.rule.restart_times = 0


def reasons_in(log: Path) -> list[str]:
    """Return the last lines of a job's log that say why it ended: Slurm's own, and errors of a stage."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:  # the node has not written it yet, or never will
        return []
    found = []
    for number, line in enumerate(lines):
        if REASONS.search(line):
            more = itertools.takewhile(lambda other: other.startswith("  "), lines[number + 1 :])
            found.append("\n    ".join([line.strip(), *(other.strip() for other in more)][:DETAILS_SHOWN]))
    return list(dict.fromkeys(found))[-REASONS_SHOWN:]
