# What all arms share: the problems, the policies that every arm starts from, and their evaluation.
#
#   inputs   the configuration, local files of problems that it names
#   outputs  results/<name>/prepare/{train,held_out,dropped,sources}.parquet
#            results/<name>/warm_start/{warm_start,evaluate,evaluate_figures}.parquet, policy/; where the
#            configuration names several warm starts, warm_start_<seed>/ of each but 0


# The problems, in disjoint sets.
rule prepare:
    input:
        sources=list(LAYOUT.sources().values()),
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
    shell:
        "python -m stages prepare --job {params.job:q} --log {log}"
        f" --input {as_quoted_inputs('source', LAYOUT.sources())}"
        " --output train={output.train} held_out={output.held_out} dropped={output.dropped}"
        " sources={output.sources}"


# The initial policy: made and taught here, or a given model.
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
    shell:
        "python -m stages warm_start --job {params.job:q} --log {log}"
        " --input held_out={input.held_out} train={input.train}"
        " --output warm_start={output.warm_start} policy={output.policy}"


# Where every arm starts from, on the held-out problems.
rule evaluate_warm_start:
    input:
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        policy=f"{RESULTS}/{{start}}/policy/manifest.json",
    output:
        evaluate=f"{RESULTS}/{{start}}/evaluate.parquet",
        figures=f"{RESULTS}/{{start}}/evaluate_figures.parquet",
    log:
        f"{RESULTS}/logs/evaluate_{{start}}.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("evaluate")
    params:
        job=job("evaluate"),
    shell:
        "python -m stages evaluate --job {params.job:q} --log {log}"
        " --input held_out={input.held_out} policy={input.policy}"
        " --output evaluate={output.evaluate} evaluate_figures={output.figures}"


# The initial policy's evaluation and nothing else: `snakemake evaluate --config model='{source: MODEL}' name=NAME`.
rule evaluate:
    input:
        [
            f"{RESULTS}/{start}/{name}.parquet"
            for start in LAYOUT.starts()
            for name in ("evaluate", "evaluate_figures")
        ],
