# Metrics for trackers (`tracking`, docs/tracking.md); included only where a tracker is named. The jobs read finished
# tables, no stage waits for them, and an outage of a tracker is no failure: the next of them catches up. On a cluster
# they run next to Snakemake, where there is a network.
#
#   inputs   summarize.parquet of an iteration, evaluate_figures.parquet of a policy
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/{track,track_evaluation}.json
#            results/<name>/<arm>/s<seed>/track_warm_start.json
#            results/<name>/tracking/ (what the trackers have, no output of a rule)
TRACK = (
    f"python -m stages track --settings {{params.settings:q}} --results {RESULTS} --arm {{wildcards.arm}}"
    " --seed {wildcards.seed} --start {params.start} --output {output} --log {log}"
)


localrules:
    track,
    track_evaluation,
    track_warm_start,


# The metrics of an iteration, and of earlier ones that are not logged yet.
rule track:
    input:
        f"{HERE}/summarize.parquet",
    output:
        f"{HERE}/track.json",
    log:
        f"{HERE}/logs/track.log",
    conda:
        "../envs/extra.yaml"
    params:
        settings=tracking_json(EXPERIMENT),
        start=LAYOUT.start,
    shell:
        f"{TRACK} --step {{wildcards.iteration}}"


# The evaluation of an iteration's policy.
use rule track as track_evaluation with:
    input:
        f"{HERE}/evaluate_figures.parquet",
    output:
        f"{HERE}/track_evaluation.json",
    log:
        f"{HERE}/logs/track_evaluation.log",


# The evaluation of the initial policy.
rule track_warm_start:
    input:
        lambda wildcards: f"{RESULTS}/{LAYOUT.start(wildcards)}/evaluate_figures.parquet",
    output:
        f"{RESULTS}/{{arm}}/s{{seed}}/track_warm_start.json",
    log:
        f"{RESULTS}/logs/track_warm_start_{{arm}}_{{seed}}.log",
    conda:
        "../envs/extra.yaml"
    params:
        settings=tracking_json(EXPERIMENT),
        start=LAYOUT.start,
    shell:
        TRACK
