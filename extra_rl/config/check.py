"""Rules between the keys of different sections, on one arm's validated sections. Nothing here reads a file.

A rule lists the keys that it reads, and is left out where one of them has an invalid value: that is reported already.
Rules between the keys of one section are validators of its model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from extra_rl.config.judges import TASK_NAMES, who_judges
from extra_rl.config.mistakes import nearest
from extra_rl.config.run import RunConfig
from extra_rl.config.sections import SHARED
from extra_rl.verdict import BUILT_IN, SCORE

Sections = Mapping[str, Mapping[str, Any]]
"""Stage or shared section -> its keys."""
Rule = Callable[[Sections, RunConfig], Iterator[str]]


class Check(NamedTuple):
    """A rule, and the keys that it reads as `section.key`; keys of the run have no section."""

    reads: tuple[str, ...]
    rule: Rule


CHECKS: list[Check] = []


def reads(*keys: str) -> Callable[[Rule], Rule]:
    """Register a rule that reads these keys. It yields one line for every contradiction."""

    def register(rule: Rule) -> Rule:
        CHECKS.append(Check(keys, rule))
        return rule

    return register


Checked = tuple[Sections, set[str]]
"""An arm's sections, and the paths of the keys whose value was invalid."""


def contradictions(
    common: Checked, arms: Mapping[str, Checked], run: RunConfig | None, ends: Mapping[str, int] | None = None
) -> list[str]:
    """Return one line for every contradiction; one that not all arms have begins with their names.

    Args:
        common: the sections that all arms share; they are checked where there are no arms.
        arms: folder of an arm -> its sections.
        run: the keys of the run; None where they are invalid, and nothing is checked.
        ends: folder of an arm -> the iteration before which its sections end, where a schedule changes them.
    """
    if run is None:
        return []
    runs = {name: run.model_copy(update={"iterations": end}) for name, end in (ends or {}).items()}
    return grouped({name: broken(*checked, runs.get(name, run)) for name, checked in (arms or {"": common}).items()})


def grouped(lines: Mapping[str, Iterable[str]]) -> list[str]:
    """Return each line once, with the names of its arms before it unless it is a line of all of them.

    lines: arm -> its lines.
    """
    found: dict[str, list[str]] = {}
    for name, of_arm in lines.items():
        for line in dict.fromkeys(of_arm):
            found.setdefault(line, []).append(f"arms.{name}")
    return [line if len(names) == len(lines) else f"{', '.join(names)}: {line}" for line, names in found.items()]


def broken(sections: Sections, wrong: set[str], run: RunConfig) -> Iterator[str]:
    """One line for every rule that these sections break."""
    shared = {name: next((section[name] for section in sections.values() if name in section), None) for name in SHARED}
    view = {**{name: section for name, section in shared.items() if section is not None}, **sections}
    for check in CHECKS:
        known = all(key.partition(".")[0] in view for key in check.reads if "." in key)
        if known and not any(key == place or key.startswith(f"{place}.") for key in check.reads for place in wrong):
            yield from check.rule(view, run)


@reads("audit.judge")
def one_process_has_no_audit(of: Sections, run: RunConfig) -> Iterator[str]:
    if run.one_process and of["audit"]["judge"] != "none":
        yield (
            "audit.judge: the second judge is a separate job, which granularity: one_process does not run. Remove "
            "the judge, or set granularity: iteration"
        )


@reads("compare.ks", "evaluate.samples")
def enough_samples_for_pass_at_k(of: Sections, run: RunConfig) -> Iterator[str]:
    samples = of["evaluate"]["samples"]
    if above := [k for k in of["compare"]["ks"] if k > samples]:
        yield f"compare.ks: pass@{above[0]} needs {above[0]} samples a problem; evaluate.samples is {samples}"


@reads(*("sampling.top_p", "sampling.top_k", "generate.source", "choose_prefixes.groups", "choose_prefixes.replay"))
def training_samples_the_whole_distribution(of: Sections, run: RunConfig) -> Iterator[str]:
    prefixes = of["choose_prefixes"]
    if of["generate"]["source"] == "demonstrations" and not prefixes["groups"] and not prefixes["replay"]["rows"]:
        return
    for key, neutral in (("top_p", 1.0), ("top_k", 0)):
        if of["sampling"][key] != neutral:
            yield (
                f"sampling.{key}: {of['sampling'][key]} cannot be trained on: the sampled distribution would not be "
                f"the policy's, whose logprobs the loss needs. Use {key}: {neutral} (evaluate has its own)"
            )


@reads("model.context_tokens", "sampling.max_response_tokens", "evaluate.max_response_tokens")
def a_prompt_fits_next_to_the_response(of: Sections, run: RunConfig) -> Iterator[str]:
    context = of["model"]["context_tokens"]
    if context is None:  # read from the model
        return
    for section in ("sampling", "evaluate"):
        response = of[section]["max_response_tokens"]
        if response >= context:
            yield (
                f"{section}.max_response_tokens: {response:,} leaves no tokens for a prompt: model.context_tokens is "
                f"{context:,}, for prompt and response together"
            )


@reads("sampling.backend", "sampling.engine", "sampling.max_response_tokens", "evaluate.max_response_tokens")
def the_engine_reads_a_whole_response(of: Sections, run: RunConfig) -> Iterator[str]:
    length = of["sampling"]["engine"]["max_model_len"]
    if of["sampling"]["backend"] != "vllm" or length is None:
        return
    for section in ("sampling", "evaluate"):
        if of[section]["max_response_tokens"] >= length:
            yield (
                f"sampling.engine.max_model_len: {length:,} has no tokens for a prompt next to "
                f"{section}.max_response_tokens ({of[section]['max_response_tokens']:,})"
            )


@reads("score_entropy.tokens_per_batch", "update.tokens_per_batch", "sampling.max_response_tokens")
def a_batch_holds_a_sequence(of: Sections, run: RunConfig) -> Iterator[str]:
    response = of["sampling"]["max_response_tokens"]
    for stage in ("score_entropy", "update"):
        if of[stage]["tokens_per_batch"] <= response:
            yield (
                f"{stage}.tokens_per_batch: {of[stage]['tokens_per_batch']:,} does not hold one sequence, with a "
                f"response of up to {response:,} tokens (sampling.max_response_tokens)"
            )


@reads("update.minibatches", "select.prompts", "generate.group_size")
def every_minibatch_has_a_row(of: Sections, run: RunConfig) -> Iterator[str]:
    rows = of["select"]["prompts"] * of["generate"]["group_size"]
    if of["update"]["minibatches"] > rows:
        yield (
            f"update.minibatches: {of['update']['minibatches']:,} are more than the {rows:,} rollouts of an iteration "
            "(select.prompts times generate.group_size)"
        )


@reads(
    *("task.name", "task.train", "task.benchmarks", "task.examples", "warm_start.steps", "generate.source"),
    "choose_prefixes.replay",
)
def problems_from_files_are_named(of: Sections, run: RunConfig) -> Iterator[str]:
    task = of["task"]
    if task["name"] != "math":
        return
    if not task["benchmarks"]:
        yield "task.benchmarks: the task `math` needs at least one held-out problem set, and task.train to train on"
    wanted = {
        f"task.examples: {task['examples']}": task["examples"] > 0,
        f"warm_start.steps: {of['warm_start']['steps']}": of["warm_start"]["steps"] > 0,
        "generate.source: demonstrations": of["generate"]["source"] == "demonstrations",
        "choose_prefixes.replay.source: demonstrations": (
            of["choose_prefixes"]["replay"]["rows"] > 0
            and of["choose_prefixes"]["replay"]["source"] == "demonstrations"
        ),
    }
    if not any(source["solution"] for source in task["train"].values()):
        for key in (key for key, applies in wanted.items() if applies):
            yield f"{key} needs worked solutions: name their column as `solution` of a source in task.train"


@reads("task.name", "model.source", "model.tokenizer")
def a_new_model_can_read_the_problems(of: Sections, run: RunConfig) -> Iterator[str]:
    task, model = of["task"]["name"], of["model"]
    if model["source"] == "new" and model["tokenizer"] == "words" and task in ("math", "reasoning_gym"):
        yield f"model.tokenizer: `words` is for generated tasks; a new model for `{task}` needs `bytes`"


@reads(
    *("evaluate.split", "task.name", "prepare.tuning_problems", "prepare.tuning_per_level", "prepare.final_per_level")
)
def the_evaluated_split_has_problems(of: Sections, run: RunConfig) -> Iterator[str]:
    split, prepare = of["evaluate"]["split"], of["prepare"]
    math = of["task"]["name"] == "math"
    key = "tuning_problems" if math else f"{split}_per_level"
    if prepare[key] == 0 and not (math and split == "final"):  # that split is `task.benchmarks`
        yield f"evaluate.split: {split} has no problem, as prepare.{key} is 0"


@reads("update.learning_rate_decay", "iterations")
def every_iteration_has_a_learning_rate(of: Sections, run: RunConfig) -> Iterator[str]:
    decay = of["update"].get("learning_rate_decay")
    if decay and decay["final_share"] == 0 and decay["over"] < run.iterations:
        yield (
            f"update.learning_rate_decay: with over: {decay['over']} and final_share: 0 the iterations "
            f"{decay['over']} to {run.iterations - 1} would have the learning rate 0. Set final_share above 0, which "
            f"changes the rates of finished iterations, as over: {run.iterations} does; or let them go on at another "
            f"decay by an entry of `schedule` from iteration {decay['over']} on (docs/course.md)"
        )


@reads("select.level_weights", "task.name", "task.train", "task.sets", "prepare.train_per_level")
def the_weighted_levels_have_problems(of: Sections, run: RunConfig) -> Iterator[str]:
    task, counts = of["task"], of["prepare"]["train_per_level"]
    if task["name"] == "math":
        levels = list(task["train"])
    elif task["name"] == "reasoning_gym":
        levels = [name for name in task["sets"] if counts.get(name) != 0]
    else:
        levels = [level for level, count in counts.items() if count]
    if not levels:  # reported where training begins: an evaluation needs no training problems
        return
    for level in of["select"]["level_weights"]:
        if level not in levels:
            yield (
                f"select.level_weights: there are no training problems of {level!r}; there are {', '.join(levels)}"
                f"{nearest(level, levels)}"
            )


@reads("verify.gold", "choose_prefixes.groups", "choose_prefixes.when", "choose_prefixes.replay")
def displaced_references_need_the_next_batch(of: Sections, run: RunConfig) -> Iterator[str]:
    prefixes = of["choose_prefixes"]
    if of["verify"]["gold"] == "displaced" and prefixes["replay"]["rows"]:
        yield "verify.gold: displaced is the released code, which has no replay: set choose_prefixes.replay.rows: 0"
    if of["verify"]["gold"] == "displaced" and prefixes["groups"] != 0 and prefixes["when"] == "same_iteration":
        yield "verify.gold: displaced needs choose_prefixes.when: next_iteration, as in the released code"


@reads("task.name", "task.judge", "verify.weights")
def weighted_numbers_exist(of: Sections, run: RunConfig) -> Iterator[str]:
    """The numbers of a user's judge are checked before the first job, in a child process."""
    judge = who_judges(of["task"])
    if judge not in TASK_NAMES:
        return
    known = [*BUILT_IN, *([SCORE] if judge == "reasoning_gym" else [])]
    for name in of["verify"]["weights"]:
        if name not in known:
            yield (
                f"verify.weights.{name}: the judge of {judge} returns no such number; there are {', '.join(known)}"
                f"{nearest(name, known)}. A judge of your own may return any (task.judge, docs/rewards.md)"
            )


@reads("name", "evaluate.cache")
def the_cache_is_no_run(of: Sections, run: RunConfig) -> Iterator[str]:
    cache = of["evaluate"]["cache"]
    if cache is not None and PurePath(cache) == PurePath("results", run.name):
        yield f"name: {run.name} is the folder of cached evaluations (evaluate.cache: {cache}); choose another name"


@reads("generation", "generate.rounds", "generate.half_groups")
def rounds_need_all_groups_in_one_job(of: Sections, run: RunConfig) -> Iterator[str]:
    """No shard knows how many groups are missing overall."""
    if run.generation.shards > 1 and of["generate"]["rounds"] > 1:
        yield "generate.rounds above 1 needs generation.shards: 1 (docs/sampling.md)"
    if run.generation.shards > 1 and of["generate"].get("half_groups"):
        yield "generate.half_groups needs generation.shards: 1 (docs/sampling.md)"


@reads(
    *("score_entropy.rows", "choose_prefixes.groups", "choose_prefixes.scores_from", "update.kl_weight"),
    *("update.entropy_weight", "novelty.measure"),
)
def needed_rollouts_are_scored(of: Sections, run: RunConfig) -> Iterator[str]:
    if of["score_entropy"]["rows"] == "all":
        return
    prefixes, update = of["choose_prefixes"], of["update"]
    needed = {
        "choose_prefixes.scores_from: sampler (prefixes are chosen by the scores of all failed rollouts otherwise)": (
            prefixes["groups"] != 0 and prefixes["scores_from"] == "policy"
        ),
        "update.kl_weight: 0 (every row has a gradient otherwise)": update["kl_weight"] > 0,
        "update.entropy_weight: 0 (every row has a gradient otherwise)": update["entropy_weight"] > 0,
        "another novelty.measure than surprise, which compares the logprobs of all rollouts": (
            of["novelty"]["measure"] == "surprise"
        ),
    }
    if missing := [requirement for requirement, is_missing in needed.items() if is_missing]:
        yield f"score_entropy.rows: signal needs {'; '.join(missing)}. Or set rows: all"


@reads("novelty.measure", "novelty.params", "advantage.weight", "advantage.scale")
def the_elliptical_bonus_is_scaled(of: Sections, run: RunConfig) -> Iterator[str]:
    """Its size follows from `ridge`, up to 4 / ridge, and says nothing about what a weight does."""
    if of["novelty"]["measure"] != "elliptical" or not of["advantage"]["weight"]:
        return
    if of["advantage"]["scale"] == "none":
        yield (
            "advantage.scale: novelty.measure elliptical has no unit of its own (at most 4 / ridge), so it needs a "
            "scale: batch_std or group_max"
        )


@reads(
    *("advantage.normalise", "advantage.k", "generate.group_size", "verify.rewards", "verify.weights"),
    "choose_prefixes.replay",
)
def the_rewards_fit_the_advantage(of: Sections, run: RunConfig) -> Iterator[str]:
    """Rewards that are known only from a judge are checked when they are there."""
    advantage, verify, size = of["advantage"], of["verify"], of["generate"]["group_size"]
    given = {name: reward for name, reward in verify["rewards"].items() if reward is not None}
    if advantage["normalise"] == "mean":
        for name, reward in given.items():
            if reward < 0:
                yield f"advantage.normalise: mean needs rewards of 0 or more, and verify.rewards.{name} is {reward:g}"
    if advantage["normalise"] != "pass_at_k":
        return
    if advantage["k"] is not None and advantage["k"] >= size:
        yield (
            f"advantage.k: {advantage['k']} must be below generate.group_size ({size}): pass@k of a whole group is 0 "
            "or 1, so no group would have a signal"
        )
    replay = of["choose_prefixes"]["replay"]
    if advantage["k"] is not None and replay["rows"] and advantage["k"] >= replay["continuations"]:
        yield (
            f"advantage.k: {advantage['k']} must be below choose_prefixes.replay.continuations "
            f"({replay['continuations']}), or no group of replays has a signal"
        )
    for name, reward in given.items():
        if reward not in (0, 1):
            yield f"advantage.normalise: pass_at_k needs rewards of 0 and 1, and verify.rewards.{name} is {reward:g}"
    if verify["weights"] not in ({}, {"correct": 1.0}):
        yield "advantage.normalise: pass_at_k needs rewards of 0 and 1, which verify.weights replaces by weighted sums"
