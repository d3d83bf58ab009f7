# The end of a run: all arms and seeds in one comparison.
#
#   inputs   the last iteration of every arm and seed
#   outputs  results/<name>/{compare,compare_seeds,compare_differences}.parquet, summary.json, report.html
EVALUATED = LAYOUT.evaluated()
SUMMARIZED = LAYOUT.finals("summarize")
STARTS = {label: EVALUATED[label] for label in LAYOUT.starts()}
# A label for every final policy, made into its two inputs by sed: a command may be 128 KiB long, which the paths of a
# grid of 600 policies exceed.
LAST = f"{RESULTS}/&/{iteration_name(RUN.iterations - 1)}"
FINALS = (
    f"$(printf '%s\\n' {' '.join(SUMMARIZED)} | "
    f"sed 's#.*#evaluate:&={LAST}/evaluate.parquet summarize:&={LAST}/summarize.parquet#')"
)


# pass@k of every arm beside the warm start, and the differences between arms over seeds.
rule compare:
    input:
        evaluate=list(EVALUATED.values()),
        summarize=list(SUMMARIZED.values()),
    output:
        compare=report(
            f"{RESULTS}/compare.parquet",
            caption="../report/compare.rst",
            category="Tables",
        ),
        compare_seeds=f"{RESULTS}/compare_seeds.parquet",
        compare_differences=report(
            f"{RESULTS}/compare_differences.parquet",
            caption="../report/differences.rst",
            category="Tables",
        ),
        summary=report(
            f"{RESULTS}/summary.json",
            caption="../report/summary.rst",
            category="Tables",
        ),
    log:
        f"{RESULTS}/logs/compare.log",
    conda:
        "../envs/extra.yaml"
    params:
        job=job("compare"),
        files=lambda wildcards, output: (
            f"--input {as_inputs('evaluate', STARTS)} {FINALS} --output {by_role(output)}"
        ),
    shell:
        STAGE


# The page that a reader opens: the answer, its figures, the rollouts behind them.
rule report:
    input:
        LAYOUT.extra_evaluations(),
        compare=f"{RESULTS}/compare.parquet",
        compare_differences=f"{RESULTS}/compare_differences.parquet",
        summary=f"{RESULTS}/summary.json",
    output:
        report=report(
            f"{RESULTS}/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/extra.yaml"
    shell:
        "python -m extra_cli.main report $(dirname {input.summary}) --out {output.report} 2> {log}"
