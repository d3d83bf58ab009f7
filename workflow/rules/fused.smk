# All stages of an iteration as one job, for `granularity: iteration` (docs/decisions/0013-granularity.md); included only
# then. The rules of iteration.smk that it replaces stay available for stages that are run by hand.
#
#   inputs   the problems, the policy of the previous iteration and tables that it wrote for this one
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/<stage>.parquet, policy/
from stages.pipeline import STEPS, outputs_of, previous_tables


ruleorder: iteration > select
ruleorder: iteration > generate
ruleorder: iteration > verify
ruleorder: iteration > score_entropy
ruleorder: iteration > choose_prefixes
ruleorder: iteration > regenerate
ruleorder: iteration > novelty
ruleorder: iteration > advantage
ruleorder: iteration > update
ruleorder: iteration > summarize


# A whole iteration.
rule iteration:
    input:
        train=f"{RESULTS}/prepare/train.parquet",
        policy=LAYOUT.policy,
        initial=LAYOUT.initial,
        previous_policy=wanted(
            "score_entropy", "parents_policy", LAYOUT.previous_policy
        ),
        previous=previous(*(f"{name}.parquet" for name in previous_tables())),
    output:
        [path for step in STEPS for path in outputs_of(step, HERE).values()],
    log:
        [f"{HERE}/logs/{step.name}.log" for step in STEPS],
    conda:
        "../envs/extra.yaml"
    threads: max(threads_of(step.stage) for step in STEPS)
    params:
        jobs=jobs_of_an_iteration,
        here=lambda wildcards: LAYOUT.iteration(
            wildcards.arm, wildcards.seed, int(wildcards.iteration)
        ),
        files=lambda wildcards, input: by_role(
            {role: path for role, path in input.items() if role != "previous"}
        ),
    shell:
        "python -m stages iteration --jobs {params.jobs:q} --here {params.here}"
        " --previous {input.previous} --input {params.files}"
