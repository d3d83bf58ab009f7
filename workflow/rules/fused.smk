# All stages of an iteration as one job, for `granularity: iteration` (docs/decisions/0013-granularity.md). Included in
# that case only; the rules of iteration.smk that it takes the place of stay, for stages asked for by hand.
#
#   inputs   the problems, the policy of the former iteration and what that iteration remembers
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/<stage>.parquet, policy/
from stages.wiring import STEPS, former_tables, table


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
        former_policy=wanted("score_entropy", "parents_policy", LAYOUT.former_policy),
        former=previous(*(f"{name}.parquet" for name in former_tables())),
    output:
        [table(HERE, name) for step in STEPS for name in step.adds.values()],
    log:
        [f"{HERE}/logs/{step.name}.log" for step in STEPS],
    conda:
        "../envs/extra.yaml"
    threads: max(threads_of(step.stage) for step in STEPS)
    params:
        jobs=jobs_of_an_iteration,
    shell:
        "python -m stages iteration --jobs {params.jobs:q}"
        f" --here {RESULTS}/{{wildcards.arm}}/s{{wildcards.seed}}/iteration_{{wildcards.iteration}}"
        " --former {input.former}"
        " --input train={input.train} policy={input.policy} initial={input.initial}"
        " former_policy={input.former_policy}"
