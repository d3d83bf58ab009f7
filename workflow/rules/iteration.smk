# One iteration: the stages in the order of the data flow. `verify` and `score_entropy` run twice (wildcard `of`): for
# the rollouts of `generate` and for those of `regenerate`. A mechanism is switched off by a value of its section, never
# here: all arms share these rules. The name of an input or output is its role in the stage.
#
#   inputs   the problems, the policy of the previous iteration and tables that it wrote for this one
#   outputs  results/<name>/<arm>/s<seed>/iteration_<iteration>/<stage>.parquet, policy/


# The next problems of the seed's stream; none once a budget is spent.
rule select:
    input:
        train=f"{RESULTS}/prepare/train.parquet",
        previous_summarize=previous("summarize.parquet"),
        previous_summarize_state=previous("summarize_state.parquet"),
    output:
        select=f"{HERE}/select.parquet",
    log:
        f"{HERE}/logs/select.log",
    group:
        in_group("sample")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("select")
    params:
        job=job("select"),
        files=files,
    shell:
        STAGE


# Rollouts of the selected problems, and continuations of the queued prefixes.
rule generate:
    input:
        select=f"{HERE}/select.parquet",
        train=f"{RESULTS}/prepare/train.parquet",
        policy=LAYOUT.policy,
        previous_choose_prefixes=previous("choose_prefixes.parquet"),
    output:
        generate=f"{HERE}/generate.parquet",
    log:
        f"{HERE}/logs/generate.log",
    group:
        in_group("sample", samples=True)
    conda:
        "../envs/extra.yaml"
    threads: threads_of("generate")
    params:
        job=job("generate"),
        files=files,
    shell:
        STAGE


# A verdict for every rollout.
rule verify:
    input:
        rollouts=f"{HERE}/{{of}}.parquet",
        train=f"{RESULTS}/prepare/train.parquet",
    output:
        verify=f"{HERE}/verify_{{of}}.parquet",
    log:
        f"{HERE}/logs/verify_{{of}}.log",
    group:
        in_group("judge_{of}")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("verify")
    params:
        job=job("verify"),
        files=files,
    shell:
        STAGE


# Disagreements of a second judge, where the configuration names one (audit.judge).
rule audit:
    input:
        rollouts=f"{HERE}/{{of}}.parquet",
        verify=f"{HERE}/verify_{{of}}.parquet",
        train=f"{RESULTS}/prepare/train.parquet",
    output:
        audit=f"{HERE}/audit_{{of}}.parquet",
    log:
        f"{HERE}/logs/audit_{{of}}.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("audit")
    params:
        job=job("audit"),
        files=files,
    shell:
        STAGE


# The policy's logprob and entropy of every token; with `rows: signal` only for rollouts that may carry a signal.
rule score_entropy:
    input:
        rollouts=f"{HERE}/{{of}}.parquet",
        policy=LAYOUT.policy,
        verify=wanted("score_entropy", "verify", LAYOUT.table("verify_{of}")),
        parents=wanted("score_entropy", "parents", LAYOUT.parents("generate")),
        parents_verify=wanted(
            "score_entropy", "parents_verify", LAYOUT.parents("verify_generate")
        ),
        parents_scores=wanted(
            "score_entropy", "parents_scores", LAYOUT.parents("score_entropy_generate")
        ),
        parents_policy=wanted("score_entropy", "parents_policy", LAYOUT.parents_policy),
    output:
        score_entropy=f"{HERE}/score_entropy_{{of}}.parquet",
    log:
        f"{HERE}/logs/score_entropy_{{of}}.log",
    group:
        in_group("judge_{of}")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("score_entropy")
    params:
        job=job("score_entropy"),
        files=files,
    shell:
        STAGE


# The prefixes to be continued: beginnings of failed rollouts of hard problems, and of stored trajectories.
rule choose_prefixes:
    input:
        generate=f"{HERE}/generate.parquet",
        verify_generate=f"{HERE}/verify_generate.parquet",
        score_entropy_generate=wanted(
            "choose_prefixes",
            "score_entropy_generate",
            LAYOUT.table("score_entropy_generate"),
        ),
        policy=LAYOUT.policy,
        initial=LAYOUT.initial,
        previous_choose_prefixes_pool=previous("choose_prefixes_pool.parquet"),
        previous_choose_prefixes_bank=wanted(
            "choose_prefixes",
            "previous_choose_prefixes_bank",
            previous("choose_prefixes_bank.parquet"),
        ),
        previous_choose_prefixes_branches=wanted(
            "choose_prefixes",
            "previous_choose_prefixes_branches",
            previous("choose_prefixes_branches.parquet"),
        ),
        previous_choose_prefixes_groups=wanted(
            "choose_prefixes",
            "previous_choose_prefixes_groups",
            previous("choose_prefixes_groups.parquet"),
        ),
        previous_regenerate=wanted(
            "choose_prefixes", "previous_regenerate", previous("regenerate.parquet")
        ),
        previous_verify_regenerate=wanted(
            "choose_prefixes",
            "previous_verify_regenerate",
            previous("verify_regenerate.parquet"),
        ),
        train=wanted(
            "choose_prefixes", "train", lambda _: f"{RESULTS}/prepare/train.parquet"
        ),
    output:
        choose_prefixes=f"{HERE}/choose_prefixes.parquet",
        choose_prefixes_pool=f"{HERE}/choose_prefixes_pool.parquet",
        choose_prefixes_bank=f"{HERE}/choose_prefixes_bank.parquet",
        choose_prefixes_branches=f"{HERE}/choose_prefixes_branches.parquet",
        choose_prefixes_groups=f"{HERE}/choose_prefixes_groups.parquet",
    log:
        f"{HERE}/logs/choose_prefixes.log",
    group:
        in_group("judge_generate")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("choose_prefixes")
    params:
        job=job("choose_prefixes"),
        files=files,
    shell:
        STAGE


# Continuations sampled in the same iteration.
rule regenerate:
    input:
        choose_prefixes=f"{HERE}/choose_prefixes.parquet",
        policy=LAYOUT.policy,
    output:
        regenerate=f"{HERE}/regenerate.parquet",
    log:
        f"{HERE}/logs/regenerate.log",
    group:
        in_group("judge_regenerate", samples=True)
    conda:
        "../envs/extra.yaml"
    threads: threads_of("regenerate")
    params:
        job=job("regenerate"),
        files=files,
    shell:
        STAGE


# The distance of each rollout from the other rollouts of its group.
rule novelty:
    input:
        generate=f"{HERE}/generate.parquet",
        regenerate=f"{HERE}/regenerate.parquet",
        verify_generate=f"{HERE}/verify_generate.parquet",
        verify_regenerate=f"{HERE}/verify_regenerate.parquet",
        score_entropy_generate=f"{HERE}/score_entropy_generate.parquet",
        score_entropy_regenerate=f"{HERE}/score_entropy_regenerate.parquet",
        initial=LAYOUT.initial,
        previous_novelty_memory=previous("novelty_memory.parquet"),
    output:
        novelty=f"{HERE}/novelty.parquet",
        novelty_memory=f"{HERE}/novelty_memory.parquet",
    log:
        f"{HERE}/logs/novelty.log",
    group:
        in_group("learn")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("novelty")
    params:
        job=job("novelty"),
        files=files,
    shell:
        STAGE


# Group-normalised rewards, plus the novelty bonus.
rule advantage:
    input:
        generate=f"{HERE}/generate.parquet",
        regenerate=f"{HERE}/regenerate.parquet",
        verify_generate=f"{HERE}/verify_generate.parquet",
        verify_regenerate=f"{HERE}/verify_regenerate.parquet",
        score_entropy_generate=wanted(
            "advantage",
            "score_entropy_generate",
            LAYOUT.table("score_entropy_generate"),
        ),
        score_entropy_regenerate=wanted(
            "advantage",
            "score_entropy_regenerate",
            LAYOUT.table("score_entropy_regenerate"),
        ),
        novelty=f"{HERE}/novelty.parquet",
        previous_generate=previous("generate.parquet"),
        previous_verify_generate=previous("verify_generate.parquet"),
    output:
        advantage=f"{HERE}/advantage.parquet",
    log:
        f"{HERE}/logs/advantage.log",
    group:
        in_group("learn")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("advantage")
    params:
        job=job("advantage"),
        files=files,
    shell:
        STAGE


# The optimizer steps, which give the next policy.
rule update:
    input:
        generate=f"{HERE}/generate.parquet",
        regenerate=f"{HERE}/regenerate.parquet",
        score_entropy_generate=f"{HERE}/score_entropy_generate.parquet",
        score_entropy_regenerate=f"{HERE}/score_entropy_regenerate.parquet",
        advantage=f"{HERE}/advantage.parquet",
        policy=LAYOUT.policy,
        initial=LAYOUT.initial,
        previous_generate=previous("generate.parquet"),
        previous_score_entropy_generate=previous("score_entropy_generate.parquet"),
    output:
        update_=f"{HERE}/update.parquet",
        next_policy=f"{HERE}/policy/manifest.json",
    log:
        f"{HERE}/logs/update.log",
    group:
        in_group("learn")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("update")
    params:
        job=job("update"),
        files=files,
    shell:
        STAGE


# The iteration as one row of a table and one line on the terminal.
rule summarize:
    input:
        select=f"{HERE}/select.parquet",
        generate=f"{HERE}/generate.parquet",
        regenerate=f"{HERE}/regenerate.parquet",
        verify_generate=f"{HERE}/verify_generate.parquet",
        verify_regenerate=f"{HERE}/verify_regenerate.parquet",
        score_entropy_generate=f"{HERE}/score_entropy_generate.parquet",
        score_entropy_regenerate=f"{HERE}/score_entropy_regenerate.parquet",
        choose_prefixes=f"{HERE}/choose_prefixes.parquet",
        novelty=f"{HERE}/novelty.parquet",
        choose_prefixes_bank=f"{HERE}/choose_prefixes_bank.parquet",
        advantage=f"{HERE}/advantage.parquet",
        update_=f"{HERE}/update.parquet",
        policy=LAYOUT.policy,
        previous_summarize=previous("summarize.parquet"),
        previous_summarize_state=previous("summarize_state.parquet"),
    output:
        summarize=f"{HERE}/summarize.parquet",
        summarize_state=f"{HERE}/summarize_state.parquet",
    log:
        f"{HERE}/logs/summarize.log",
    group:
        in_group("learn")
    conda:
        "../envs/extra.yaml"
    threads: threads_of("summarize")
    params:
        job=job("summarize"),
        files=files,
    shell:
        STAGE


# Evaluation of the iteration's policy on the held-out problems.
rule evaluate_iteration:
    input:
        held_out=f"{RESULTS}/prepare/held_out.parquet",
        policy=f"{HERE}/policy/manifest.json",
    output:
        evaluate=f"{HERE}/evaluate.parquet",
        evaluate_figures=f"{HERE}/evaluate_figures.parquet",
    log:
        f"{HERE}/logs/evaluate.log",
    conda:
        "../envs/extra.yaml"
    threads: threads_of("evaluate")
    params:
        job=job("evaluate"),
        files=files,
    shell:
        STAGE
