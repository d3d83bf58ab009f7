# Light stages share a Slurm job with a heavy one, for `granularity: group`; included only then (docs/slurm.md). An iteration
# is four jobs instead of twelve. On one machine Snakemake ignores groups.
#
# The name of a group contains the iteration, because a group that reached into the next one would wait for itself. A
# shard (generate_shard, regenerate_shard) is in no group: each is a separate job with a separate device. Groups that a
# profile names take precedence.
GROUPS = {
    "sample": ["select", "generate"],
    "judge_{of}": ["gather", "verify", "score_entropy"],
    "judge_generate": ["choose_prefixes"],
    "judge_regenerate": ["regenerate"],
    "learn": ["novelty", "advantage", "update", "summarize"],
}
workflow.group_settings.overwrite_groups = {
    rule_: f"{group}_{{arm}}_{{seed}}_{{iteration}}"
    for group, rules_ in GROUPS.items()
    for rule_ in rules_
} | dict(workflow.group_settings.overwrite_groups)
