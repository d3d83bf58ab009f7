# What all rules share: the resolved configuration, where things lie, and the one param of a rule.
from snakemake.logging import logger

from stages.experiment import experiment_of, job_json
from stages.terminal import is_noise

logger.addFilter(lambda record: not is_noise(record.getMessage()))

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `python` is the one that runs this file
sys.setrecursionlimit(100_000)  # the chain of iterations is walked recursively

EXPERIMENT = experiment_of(config)
RUN = EXPERIMENT.run
RESULTS = f"results/{RUN.name}"
ITERATIONS = range(RUN.first_iteration, RUN.iterations)
HERE = RESULTS + "/{arm}/s{seed}/iteration_{iteration}"


def folder(arm, seed, iteration):
    return f"{RESULTS}/{arm}/s{seed}/iteration_{iteration:04d}"


def previous(name):
    """Input function: a file of the former iteration, nothing for the first."""

    def find(wildcards):
        iteration = int(wildcards.iteration)
        return folder(wildcards.arm, wildcards.seed, iteration - 1) + "/" + name if iteration else []

    return find


def policy(wildcards):
    """Input function: the policy that an iteration samples from."""
    iteration = int(wildcards.iteration)
    if not iteration:
        return f"{RESULTS}/warm_start/policy/manifest.json"
    return folder(wildcards.arm, wildcards.seed, iteration - 1) + "/policy/manifest.json"


def job(stage):
    """Params function: canonical JSON of the stage's version, section, seed and place. The only param of a rule."""
    return lambda wildcards: job_json(EXPERIMENT, stage, dict(wildcards))


def threads_of(stage):
    return EXPERIMENT.common[stage].get("compute", {}).get("threads", 1)


wildcard_constraints:
    arm="|".join(EXPERIMENT.arms),
    seed="|".join(map(str, RUN.seeds)),
    of="generate|regenerate",
    # The window: older iterations are finished files, not rules (500 finished iterations cost nothing then).
    iteration="|".join(f"{iteration:04d}" for iteration in ITERATIONS),


onstart:
    from extra_rl.worker import launch

    launch.start(Path(".snakemake"))
