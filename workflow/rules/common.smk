# What all rules share: the resolved configuration, the paths, and the one param of a rule.
import logging

from snakemake.logging import logger

from extra_rl.run import lock as run_lock
from extra_rl.results import iteration_name
from stages import cluster
from stages.cells import outdated, settings_of
from stages.consistency import check_when_planned, remove_leftovers
from stages.experiment import (
    end_in_a_thread,
    experiment_of,
    in_turn,
    job_json,
    jobs_json,
    keep_configuration_of,
    logs_of,
    open_engines,
    or_exit,
    preflight,
    refuse_without_training,
    run_context,
    start_worker,
    tracking_json,
    use_this_python,
    write_about,
)
from stages.layout import Layout, as_inputs, by_role
from stages.terminal import Terminal

logger.addFilter(Terminal().is_shown)
# A log file that cannot be written prints no traceback for each message.
logging.raiseExceptions = False
use_this_python()
sys.setrecursionlimit(100_000)  # Snakemake walks the chain of iterations recursively

# Snakemake has read these files, and kept one of two equal keys.
EXPERIMENT = or_exit(
    experiment_of,
    config,
    workflow.configfiles if workflow.modifier.is_main_snakefile() else (),
    workflow.configfiles,  # where `--config arms=NAME` finds the arms
)
RUN = EXPERIMENT.run
ON_CLUSTER = cluster.submits(workflow)
# An arm and seed is one job: one process, or on a cluster another Snakemake that reads this file with `--config cell=`.
BY_RUN = RUN.by_run and (ON_CLUSTER or RUN.one_process) and not EXPERIMENT.cell
LAYOUT = Layout(EXPERIMENT, BY_RUN)
RESULTS = LAYOUT.results
HERE = LAYOUT.here


def before_planning():
    if BY_RUN and ON_CLUSTER:
        or_exit(cluster.require_cluster, workflow)
    if ON_CLUSTER:
        or_exit(cluster.prepare, workflow, Path(RESULTS), config)
    elif not EXPERIMENT.cell:
        or_exit(cluster.refuse_other_writers, Path(RESULTS))


def made_again():
    return outdated(EXPERIMENT, Path(RESULTS)) if BY_RUN else []


check_when_planned(workflow, RESULTS, before_planning, made_again)
previous = LAYOUT.previous
wanted = LAYOUT.wanted


if workflow.is_main_process:
    # Also in a dry run. The processes of jobs find what the main process has checked.
    or_exit(
        preflight,
        EXPERIMENT,
        Path(RESULTS),
        packages=not ON_CLUSTER and not workflow.deployment_settings.deployment_method,
        trackers=not workflow.deployment_settings.deployment_method,
    )


def problems_to_train_on(wildcards):
    """Input function of the whole run: no files. It stops a run that could only evaluate."""
    or_exit(refuse_without_training, EXPERIMENT)
    return []


def job(stage):
    """Params function: canonical JSON of the stage's version, section, seed and place. The only param of a rule."""
    return lambda wildcards: job_json(EXPERIMENT, stage, dict(wildcards))


def files(wildcards, input, output):
    """Params function: a job's files by role, as words of its command."""
    return f"--input {by_role(input)} --output {by_role(output)}"


# The command of every stage; the job names the stage.
STAGE = "python -m stages --job {params.job:q} {params.files} --log {log}"


def jobs_of_an_iteration(wildcards):
    """Params function: the same for every stage of an iteration."""
    return jobs_json(EXPERIMENT, dict(wildcards))


def threads_of(stage):
    section = EXPERIMENT.common[stage]
    return (
        section.get("compute", {}).get("threads", 1)
        * section.get("processes", 1)
        // section.get("nodes", 1)
    )


def in_group(name, samples=False):
    """The group of a rule, where light stages share a job of a cluster with a heavy one (`granularity: group`); None.

    The name contains the iteration, because a group that reached into the next one would wait for itself. A shard is
    in no group: each is a separate job with a separate device. On one machine Snakemake ignores groups.
    """
    together = RUN.granularity == "group" and not (
        samples and RUN.generation.shards > 1
    )
    return f"{name}_{{arm}}_{{seed}}_{{iteration}}" if together else None


wildcard_constraints:
    arm="|".join(EXPERIMENT.arms),
    seed="|".join(map(str, RUN.seeds)),
    start="|".join(LAYOUT.starts()),
    of="generate|regenerate",
    shard="|".join(LAYOUT.shards),
    # The window: earlier iterations are source files, not jobs, so 500 finished iterations cost nothing.
    iteration="|".join(f"{i:04d}" for i in range(RUN.first_iteration, RUN.iterations)),


def begin(log):
    """Before the first job: the run's lock, its context, and the processes that live as long as the run.

    Neither a dry run nor the process of a job calls it: Snakemake starts the latter with `--no-hooks`.
    """
    end_in_a_thread()
    here = f"{RESULTS}/{EXPERIMENT.cell}" if EXPERIMENT.cell else RESULTS
    # The profile disables Snakemake's own lock, which remains after kill -9; this one does not. On a cluster it is held
    # since before the plan.
    if not ON_CLUSTER:
        or_exit(run_lock.hold, Path(here))
    if not EXPERIMENT.cell:
        or_exit(run_context(EXPERIMENT).write, Path(RESULTS))
        or_exit(keep_configuration_of, config, workflow.configfiles, Path(RESULTS))
        or_exit(write_about, EXPERIMENT, Path(RESULTS))
    if ON_CLUSTER:
        cluster.freeze(workflow, Path(RESULTS))
    # Elsewhere than on Slurm, jobs may outlive a run that was killed.
    if workflow.local_exec or cluster.uses_slurm(workflow):
        remove_leftovers(here)
    # On a cluster the stages run on other nodes.
    if workflow.local_exec:
        start_worker(logs_of(EXPERIMENT))
        open_engines(EXPERIMENT, logs_of(EXPERIMENT))


onstart:
    begin(log)


if not workflow.modifier.is_main_snakefile():
    # Snakemake ignores the `onstart` of a module, and a run would have no lock. An `onstart` that the user's Snakefile
    # defines before the module runs first.
    workflow._onstart = in_turn(workflow._onstart, begin)
