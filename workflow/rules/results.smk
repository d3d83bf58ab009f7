# The end of a run: all arms and seeds in one comparison.
#
#   inputs   the last iteration of every arm and seed
#   outputs  results/<name>/{compare,compare_seeds,compare_differences}.parquet, summary.json, report.html
EVALUATED = LAYOUT.evaluated()
SUMMARIZED = LAYOUT.finals("summarize")
STARTS = {label: EVALUATED[label] for label in LAYOUT.starts()}
# sed expands the label of every final policy into its two inputs: a command may be at most 128 KiB long, and the paths
# of a grid of 600 policies exceed that.
LAST = f"{RESULTS}/&/{iteration_name(RUN.iterations - 1)}"
FINALS = (
    f"$(printf '%s\\n' {' '.join(SUMMARIZED)} | "
    f"sed 's#.*#evaluate:&={LAST}/evaluate.parquet summarize:&={LAST}/summarize.parquet#')"
)


# pass@k of the warm starts and of every arm, and the differences between arms over seeds.
rule compare:
    input:
        LAYOUT.compared(),
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


# The report, one HTML page: the result, its figures, and the rollouts behind them.
rule report:
    input:
        LAYOUT.reported(),  # an earlier report must not replace this one
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
        "python -m extra_cli.main report $(dirname {input.summary}) --compared --out {output.report} 2> {log}"
        " || {{ code=$?; cat {log} >&2; exit $code; }}"


# The report of the run so far, for `report.every`. It replaces report.html as a whole. The run goes on where it fails:
# the next one, or that of the end, shows the same iterations.
rule refresh_report:
    input:
        f"{HERE}/summarize.parquet",
    output:
        touch(f"{HERE}/refresh_report.done"),
    log:
        f"{RESULTS}/logs/refresh_report/{{arm}}_s{{seed}}_{{iteration}}.log",
    conda:
        "../envs/extra.yaml"
    params:
        results=lambda wildcards: RESULTS,
    shell:
        "python -m extra_cli.main report {params.results} > {log} 2>&1"
        " || {{ echo 'WARNING: the report was not refreshed, because:' >&2; cat {log} >&2; }}"
