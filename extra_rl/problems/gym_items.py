"""Problems of the task `reasoning_gym` in disjoint splits, and the items that were dropped.

An item is kept if the library's scorer judges its oracle answer correct and a nonsense answer incorrect, both after the
item went through JSON, as for every rollout; if its prompt leaves the context budget of a response; and if no item
before it has the same question. Held-out items of all sets are chosen first, in the order of their index, so a training
item that equals one of them is dropped. Source: our decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest

from extra_rl.config.sections import GymSetConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.models.protocol import Tokenizer
from extra_rl.problems.clean import Removed
from extra_rl.problems.gym_make import GymItemMade, made_items
from extra_rl.problems.prepared import PreparedProblem
from extra_rl.problems.sources import RawProblem
from extra_rl.problems.statements import normalise
from extra_rl.run.stage import Context
from extra_rl.seeding import generator
from extra_rl.tasks.prompts import render
from extra_rl.verdict import Judgement, Verdict

NONSENSE = "<answer>qxz</answer>"
"""A response that no scorer should accept."""


@dataclass(frozen=True)
class Counts:
    """Numbers of items of a set in each split. train: at most this many; None: all that are not held out."""

    final: int
    tuning: int
    train: int | None


@dataclass(frozen=True)
class Dropped:
    """An item that was left out of a split, with rule and reason."""

    problem: PreparedProblem
    removed: Removed


@dataclass(frozen=True)
class _Candidate:
    """An item with its prompt. fault: why it cannot be verified. example: whether every prompt shows it."""

    problem: PreparedProblem
    fault: str | None
    example: bool


def counts_of(
    sets: Mapping[str, GymSetConfig], train_per_level: Mapping[str, int], tuning: int, final: int
) -> dict[str, Counts]:
    """Return the counts of each set. Raises ConfigError for an unknown set, or a size with too few items."""
    if unknown := sorted(set(train_per_level) - set(sets)):
        raise ConfigError(f"prepare.train_per_level names {', '.join(unknown)}; task.sets has {', '.join(sets)}.")
    counts = {name: Counts(final, tuning, train_per_level.get(name)) for name in sets}
    for name, required in counts.items():
        least = final + tuning + (1 if required.train is None else 0)
        if sets[name].size < least:
            raise ConfigError(
                f"task.sets.{name}.size: {sets[name].size} items are too few: {final} are held out as final and "
                f"{tuning} for tuning (prepare.final_per_level, tuning_per_level), and the rest is trained on. Set at "
                f"least {least}."
            )
    return counts


def gym_problems(
    task: TaskConfig,
    verifier: VerifierConfig,
    counts: Mapping[str, Counts],
    tokenizer: Tokenizer,
    *,
    prompt_tokens: int,
    seed: int,
    context: Context,
) -> tuple[list[PreparedProblem], list[Dropped]]:
    """Return the problems, first train in a shuffled order, then tuning, then final; and the dropped items.

    Args:
        task: the sets, and how prompts are rendered.
        verifier: limits of judging.
        counts: by set.
        tokenizer: of the policy.
        prompt_tokens: length of the longest prompt that fits, in tokens.
        seed: of the order of the training problems; the items have the seeds of their sets.
        context: for progress.

    Raises ConfigError if the library rejects a set, no item of a set can be verified, or too few are left.
    """
    progress = context.progress(sum(chosen.size for chosen in task.sets.values()), "prepare: item")
    made = made_items(task.sets, progress.update)
    faults = _faults(made, task, verifier, context)
    examples = _examples(made, faults, task.examples)
    candidates = _candidates(made, faults, examples, task, tokenizer)
    split, dropped = _split(candidates, counts, prompt_tokens)
    for name in task.sets:
        _refuse_too_few(name, task.sets[name], counts[name], split, dropped)
    train = [problem for problem in split if problem.split == "train"]
    order = generator(seed, "reasoning_gym", "train_order").permutation(len(train))
    held_out = [problem for part in ("tuning", "final") for problem in split if problem.split == part]
    return [train[n] for n in order] + held_out, dropped


def _examples(made: Mapping[str, list[GymItemMade]], faults: Mapping[str, str], count: int) -> list[GymItemMade]:
    """Return the items that every prompt shows: the last verifiable ones, from each set in turn.

    The last ones, because held-out and training items are taken from the beginning. ConfigError if there are too few.
    """
    good = [[item for item in reversed(members) if _id(item) not in faults] for members in made.values()]
    in_turn = [item for row in zip_longest(*good) for item in row if item is not None]
    distinct = {normalise(item.question): item for item in reversed(in_turn)}
    if len(distinct) < count:
        raise ConfigError(
            f"task.examples: {count} are required, but task.sets has only {len(distinct)} items that can be shown."
        )
    return list(distinct.values())[::-1][:count]


def _id(item: GymItemMade) -> str:
    return f"{item.name}/{item.index}"


def _candidates(
    made: Mapping[str, list[GymItemMade]],
    faults: Mapping[str, str],
    examples: list[GymItemMade],
    task: TaskConfig,
    tokenizer: Tokenizer,
) -> dict[str, list[_Candidate]]:
    """Return every item with its prompt, by set."""
    items = [item for members in made.values() for item in members]
    shown = [(item.question, _solution(item)) for item in examples]
    prompts = render([item.question for item in items], task, tokenizer, shown)
    candidates: dict[str, list[_Candidate]] = {name: [] for name in made}
    for item, (prompt, tokens) in zip(items, prompts, strict=True):
        fault = faults.get(_id(item))
        problem = PreparedProblem(
            problem_id=_id(item),
            benchmark=item.name,
            split="train",
            canonical=normalise(item.question),
            problem=item.question,
            prompt=prompt,
            prompt_tokens=tokens,
            answer=item.oracle or "",
            solution=None if fault else _solution(item),
            metadata=item.record,
        )
        candidates[item.name].append(_Candidate(problem, fault, item in examples))
    return candidates


def _solution(item: GymItemMade) -> str:
    """Return the oracle answer as a response from which it is extracted."""
    return f"<answer>{item.oracle}</answer>"


def _faults(
    made: Mapping[str, list[GymItemMade]], task: TaskConfig, verifier: VerifierConfig, context: Context
) -> dict[str, str]:
    """Return problem_id -> why the item cannot be verified, after judging its oracle answer and a nonsense answer.

    ConfigError for a set without a verifiable item.
    """
    items = [item for members in made.values() for item in members]
    judged = [n for n, item in enumerate(items) if item.record is not None and item.oracle is not None]
    answers = [
        Answer(items[n].question, items[n].oracle or "", response, True, metadata=items[n].record)
        for n in judged
        for response in (_solution(items[n]), NONSENSE)
    ]
    progress = context.progress(len(answers), "prepare: judgement")
    verdicts = iter(judge_answers(answers, task.model_copy(update={"judge": "own"}), verifier, progress.update))
    pairs = {n: (next(verdicts), next(verdicts)) for n in judged}
    reasons = {
        _id(item): _fault(*pairs[n]) if n in pairs else item.fault or "the library has no correct answer to check with"
        for n, item in enumerate(items)
    }
    faults = {problem_id: reason for problem_id, reason in reasons.items() if reason is not None}
    for name, members in made.items():
        if all(_id(item) in faults for item in members):
            raise ConfigError(
                f"task.sets.{name}: none of the {len(members)} items of {task.sets[name].dataset} can be verified; "
                f"the first: {faults[_id(members[0])]}. Take another data set."
            )
    return faults


def _fault(oracle: Judgement, nonsense: Judgement) -> str | None:
    if oracle.verdict is not Verdict.RIGHT:
        return f"its oracle answer is judged {oracle.verdict.value} ({oracle.rule})"
    return "its scorer accepts any answer" if nonsense.verdict is Verdict.RIGHT else None


def _split(
    candidates: Mapping[str, list[_Candidate]], counts: Mapping[str, Counts], prompt_tokens: int
) -> tuple[list[PreparedProblem], list[Dropped]]:
    """Return held-out items of every set, then training items of every set; and the dropped items."""
    split: list[PreparedProblem] = []
    dropped: list[Dropped] = []
    first: dict[str, str] = {}  # canonical text -> problem_id of the first item with it
    for problem in [member.problem for members in candidates.values() for member in members if member.example]:
        first[problem.canonical] = problem.problem_id
        dropped.append(
            Dropped(problem, Removed(_raw(problem), "example", "an example of every prompt (task.examples)"))
        )
    queues: dict[str, Iterator[_Candidate]] = {
        name: iter([member for member in members if not member.example]) for name, members in candidates.items()
    }

    def take(name: str, part: str, count: int | None) -> None:
        """Move items from the set's queue to a split until it has `count`; the queue goes on where it stopped."""
        taken = 0
        while (count is None or taken < count) and (candidate := next(queues[name], None)):
            problem = replace(candidate.problem, split=part)
            removed = _removed(candidate.fault, problem, prompt_tokens, first.get(problem.canonical))
            if removed is not None:
                dropped.append(Dropped(problem, removed))
                continue
            first[problem.canonical] = problem.problem_id
            split.append(problem)
            taken += 1

    # All sets are held out from before any is trained on, so that no training item equals a held-out item of any set.
    for name, required in counts.items():
        take(name, "final", required.final)
        take(name, "tuning", required.tuning)
    for name, required in counts.items():
        take(name, "train", required.train)
    return split, dropped


def _removed(fault: str | None, problem: PreparedProblem, prompt_tokens: int, equal: str | None) -> Removed | None:
    """Return why an item is dropped, or None. equal: id of an earlier item with the same question."""
    raw = _raw(problem)
    if fault is not None:
        return Removed(raw, "unverifiable", fault)
    if equal is not None:
        return Removed(raw, "duplicate", f"same question as {equal}", equal)
    if len(problem.prompt_tokens) > prompt_tokens:
        return Removed(raw, "too_long", f"prompt longer than {prompt_tokens} tokens, the context less the response")
    return None


def _raw(problem: PreparedProblem) -> RawProblem:
    return RawProblem(problem.problem_id, problem.benchmark, problem.problem, problem.answer)


def _refuse_too_few(
    name: str, chosen: GymSetConfig, required: Counts, split: list[PreparedProblem], dropped: list[Dropped]
) -> None:
    """Raise ConfigError if a set has too few held-out items left, or no training item."""
    kept = [problem.split for problem in split if problem.benchmark == name]
    gone = [found.removed.rule for found in dropped if found.problem.benchmark == name]
    counted = ", ".join(f"{gone.count(rule)} {rule}" for rule in dict.fromkeys(gone)) or "none"
    longer = " Prompts were too long: raise model.context_tokens." if "too_long" in gone else ""
    for kind, count in (("final", required.final), ("tuning", required.tuning)):
        if kept.count(kind) < count:
            raise ConfigError(
                f"task.sets.{name}.size: of {chosen.size} items of {chosen.dataset} {len(kept)} can be used (dropped: "
                f"{counted}), too few for prepare.{kind}_per_level = {count}, with "
                f"{required.final + required.tuning} held out in total. Raise the size, hold out fewer, or configure "
                f"more different items.{longer}"
            )
    if required.train != 0 and not kept.count("train"):
        raise ConfigError(
            f"task.sets.{name}.size: of {chosen.size} items of {chosen.dataset} {len(kept)} can be used (dropped: "
            f"{counted}), all of them held out. Raise the size, or set prepare.train_per_level.{name}: 0.{longer}"
        )
