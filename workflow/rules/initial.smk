# What all arms share: the problems, the initial policies, and their evaluation.
#
#   inputs   the configuration, and local files of problems that it names
#   outputs  results/<name>/prepare/{train,held_out,dropped,sources}.parquet
#            results/<name>/warm_start/{warm_start,evaluate,evaluate_figures}.parquet, policy/; for further warm
#            starts, with a seed other than 0, the same in warm_start_<seed>/


# The problems, in disjoint sets.
rule prepare:
    input:
        **LAYOUT.sources(),
    output:
        train=f"{RESULTS}/prepare/train.parquet",
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        dropped=f"{RESULTS}/prepare/dropped.parquet",
        sources=f"{RESULTS}/prepare/sources.parquet",
    log:
        f"{RESULTS}/logs/prepare.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("prepare")
    params:
        job=job("prepare"),
        files=files,
    shell:
        STAGE


# The initial policy: a new model trained on demonstrations, or a given model.
rule warm_start:
    input:
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        train=LAYOUT.worked_solutions(),
    output:
        warm_start=f"{RESULTS}/{{start}}/warm_start.parquet",
        policy=f"{RESULTS}/{{start}}/policy/manifest.json",
    log:
        f"{RESULTS}/logs/{{start}}.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("warm_start")
    params:
        job=job("warm_start"),
        files=files,
    shell:
        STAGE


# Evaluation of the initial policy on the held-out problems.
rule evaluate_warm_start:
    input:
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        policy=f"{RESULTS}/{{start}}/policy/manifest.json",
    output:
        evaluate=f"{RESULTS}/{{start}}/evaluate.parquet",
        evaluate_figures=f"{RESULTS}/{{start}}/evaluate_figures.parquet",
    log:
        f"{RESULTS}/logs/evaluate_{{start}}.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("evaluate")
    params:
        job=job("evaluate"),
        files=files,
    shell:
        STAGE


# Only the evaluation of the initial policy: `snakemake evaluate --config model='{source: MODEL}' name=NAME`.
rule evaluate:
    input:
        [
            f"{RESULTS}/{start}/{name}.parquet"
            for start in LAYOUT.starts()
            for name in ("evaluate", "evaluate_figures")
        ],
