# The end of a run: all arms and seeds in one comparison.
#
#   inputs   the last iteration of every arm and seed
#   outputs  results/<name>/compare.parquet, summary.json


def finals(name):
    """label -> path of a table of every arm's and seed's last iteration, as `role:label=path` words need them."""
    last = RUN.iterations - 1
    return {f"{arm}/s{seed}": f"{folder(arm, seed, last)}/{name}.parquet" for arm in EXPERIMENT.arms for seed in RUN.seeds}


def labelled(role, paths):
    return " ".join(f"{role}:{label}={path}" for label, path in paths.items())


EVALUATED = {"warm_start": f"{RESULTS}/warm_start/evaluate.parquet"} | finals("evaluate")
COMPARE_INPUTS = labelled("evaluate", EVALUATED) + " " + labelled("summarize", finals("summarize"))


# pass@k of every arm beside the warm start.
rule compare:
    input:
        evaluate=list(EVALUATED.values()),
        summarize=list(finals("summarize").values()),
    output:
        compare=RESULTS + "/compare.parquet",
        summary=RESULTS + "/summary.json",
    log:
        RESULTS + "/logs/compare.log",
    params:
        job=job("compare"),
    shell:
        "python -m stages compare --job {params.job:q} --log {log}"
        f" --input {COMPARE_INPUTS}"
        " --output compare={output.compare} summary={output.summary}"
