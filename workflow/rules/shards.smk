# The two stages that sample, as `generation.shards` jobs each, one device a job. Included for more than one shard only; a
# shard is called 0of4, 1of4, ... (wildcard `shard`).
#
#   inputs   those of generate and regenerate (iteration.smk)
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/shards/{generate,regenerate}_<shard>.parquet, and
#            {generate,regenerate}.parquet


# In place of the whole in one job.
ruleorder: gather > generate
ruleorder: gather > regenerate


# A shard's part of the rollouts.
use rule generate as generate_shard with:
    output:
        generate=f"{HERE}/shards/generate_{{shard}}.parquet",
    log:
        f"{HERE}/logs/generate_{{shard}}.log",


# A shard's part of the continuations.
use rule regenerate as regenerate_shard with:
    output:
        regenerate=f"{HERE}/shards/regenerate_{{shard}}.parquet",
    log:
        f"{HERE}/logs/regenerate_{{shard}}.log",


# All parts, in the order of an unsharded run.
rule gather:
    input:
        **LAYOUT.shard_tables(),
    output:
        rollouts=f"{HERE}/{{of}}.parquet",
    log:
        f"{HERE}/logs/gather_{{of}}.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("gather")
    params:
        job=job("gather"),
        files=files,
    shell:
        STAGE
