# An arm and seed as one job: with `granularity: one_process` one process, and on a cluster, for `granularity: run` and
# `run_by_iteration`, one allocation in which another Snakemake runs the rules of iteration.smk locally (docs/slurm.md).
# Included only there.
#
#   inputs   the problems and the initial policy
#   outputs  results/<name>/<arm>/s<seed>/cell.json, and, as outputs of no rule here, all files of the arm and seed
CELL_LOG = f"{RESULTS}/logs/cell_{{arm}}_{{seed}}.log"
# On one machine the lines of the iterations belong on the terminal, and every stage has its own log.
TO_LOG = (
    " > {log} 2>&1 || {{ code=$?; tail -n 40 {log} >&2; exit $code; }}"
    if ON_CLUSTER
    else ""
)
WITHIN = (
    ("--one-process" + (" --lock" if ON_CLUSTER else ""))
    if RUN.one_process
    else "--snakefile {params.snakefile:q} --cores {threads}"
)


# All iterations of an arm and seed. A job that ended early is continued by the next one.
rule cell:
    input:
        train=f"{RESULTS}/prepare/train.parquet",
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        policy=LAYOUT.initial,
    output:
        f"{RESULTS}/{{arm}}/s{{seed}}/cell.json",
    log:
        [CELL_LOG] if ON_CLUSTER else [],
    conda:
        "../envs/extra.yaml"
    threads: max(threads_of(stage) for stage in EXPERIMENT.common)
    params:
        settings=lambda wildcards: settings_of(
            EXPERIMENT, wildcards.arm, int(wildcards.seed)
        ),
        results=RESULTS,
        last=RUN.iterations - 1,
        snakefile=os.path.relpath(workflow.main_snakefile),
    shell:
        "python -m stages cell --results {params.results} --arm {wildcards.arm} --seed {wildcards.seed}"
        " --last {params.last} --settings {params.settings} --configuration {params.results}/configuration.yaml "
        + WITHIN
        + TO_LOG
