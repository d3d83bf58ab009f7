# The end of a run: all arms and seeds in one comparison.
#
#   inputs   the last iteration of every arm and seed
#   outputs  results/<name>/compare.parquet, summary.json
EVALUATED = LAYOUT.evaluated()
SUMMARIZED = LAYOUT.finals("summarize")
COMPARED = f"{as_inputs('evaluate', EVALUATED)} {as_inputs('summarize', SUMMARIZED)}"


# pass@k of every arm beside the warm start.
rule compare:
    input:
        evaluate=list(EVALUATED.values()),
        summarize=list(SUMMARIZED.values()),
    output:
        compare=f"{RESULTS}/compare.parquet",
        summary=f"{RESULTS}/summary.json",
    log:
        f"{RESULTS}/logs/compare.log",
    conda:
        "../envs/extra.yaml"
    params:
        job=job("compare"),
    shell:
        "python -m stages compare --job {params.job:q} --log {log}"
        f" --input {COMPARED}"
        " --output compare={output.compare} summary={output.summary}"
