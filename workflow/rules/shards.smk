# The two stages that sample, as `generation.shards` jobs each, one device per job; included only for more than one shard.
# The shards are named 0of4, 1of4, ... (wildcard `shard`).
#
#   inputs   those of generate and regenerate (iteration.smk)
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/shards/{generate,regenerate}_<shard>.parquet, and
#            {generate,regenerate}.parquet


# Instead of one job for all rollouts.
ruleorder: gather > generate
ruleorder: gather > regenerate


# The rollouts of one shard.
use rule generate as generate_shard with:
    output:
        generate=f"{HERE}/shards/generate_{{shard}}.parquet",
    log:
        f"{HERE}/logs/generate_{{shard}}.log",


# The continuations of one shard.
use rule regenerate as regenerate_shard with:
    output:
        regenerate=f"{HERE}/shards/regenerate_{{shard}}.parquet",
    log:
        f"{HERE}/logs/regenerate_{{shard}}.log",


# The rollouts of all shards, in the order of a run without shards.
rule gather:
    input:
        **LAYOUT.shard_tables(),
    output:
        rollouts=f"{HERE}/{{of}}.parquet",
    log:
        f"{HERE}/logs/gather_{{of}}.log",
    group:
        in_group("judge_{of}")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("gather")
    params:
        job=job("gather"),
        files=files,
    shell:
        STAGE
