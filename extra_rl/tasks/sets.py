"""Disjoint problem sets of a generated task, and its stream of demonstrations.

The final set is drawn first and the training set last, each from its own generator, so the number of training problems
does not change the held-out sets. Source: our decision (O).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from extra_rl.errors import ConfigError
from extra_rl.seeding import generator
from extra_rl.tasks.base import Problem, Task, generate


@dataclass(frozen=True)
class ProblemSets:
    """Three sets, disjoint and distinct by canonical key.

    Args:
        train: in random order, so that every part of it has the levels in proportion to their counts.
        tuning: for choosing settings, ordered by level.
        final: for reported numbers only, ordered by level.
    """

    train: list[Problem]
    tuning: list[Problem]
    final: list[Problem]

    @property
    def held_out(self) -> frozenset[str]:
        """Canonical keys that must not occur in any training, including the warm start."""
        return frozenset(problem.canonical for problem in [*self.tuning, *self.final])


def make_sets(
    task: Task,
    seed: int,
    *,
    train: Mapping[str, int],
    tuning_per_level: int,
    final_per_level: int,
    exclude: frozenset[str] = frozenset(),
) -> ProblemSets:
    """Draw the three sets.

    Args:
        task: makes the problems.
        seed: of the sets.
        train: level -> number of training problems; absent: none.
        tuning_per_level, final_per_level: number of held-out problems of every level.
        exclude: canonical keys that no set may contain (of the examples in prompts).

    Raises ConfigError for an unknown level or one with too few problems.
    """
    taken = exclude
    drawn: dict[str, list[Problem]] = {}
    counts_per_set = {
        "final": dict.fromkeys(task.levels, final_per_level),
        "tuning": dict.fromkeys(task.levels, tuning_per_level),
        "train": train,
    }
    for name, counts in counts_per_set.items():
        drawn[name] = [
            problem
            for level, count in counts.items()
            for problem in generate(task, level, count, generator(seed, task.name, name, level), taken)
        ]
        taken |= {problem.canonical for problem in drawn[name]}
    order = generator(seed, task.name, "train_order").permutation(len(drawn["train"]))
    return ProblemSets([drawn["train"][i] for i in order], drawn["tuning"], drawn["final"])


def demonstration_stream(
    task: Task, seed: int, *, level_weights: Mapping[str, float], exclude: frozenset[str]
) -> Callable[[int, int], list[tuple[str, str]]]:
    """Return a function (step, batch) -> `batch` pairs of prompt and correct response, for the warm start.

    Every step has new problems. Its batch depends only on the seed and the step.

    Args:
        task: makes the problems.
        seed: of the stream.
        level_weights: level -> weight, proportional to its probability.
        exclude: canonical keys that never occur.

    Raises ConfigError for unknown levels, negative weights, and weights that are all 0.
    """
    unknown = sorted(set(level_weights) - set(task.levels))
    total = sum(level_weights.values())
    if unknown or total <= 0 or min(level_weights.values()) < 0:
        raise ConfigError(
            f"level weights {dict(level_weights)}: use levels from {', '.join(task.levels)}, "
            "with weights of 0 or more that are not all 0"
        )
    levels = list(level_weights)
    shares = [level_weights[level] / total for level in levels]

    def batch_of_step(step: int, batch: int) -> list[tuple[str, str]]:
        rng = generator(seed, task.name, "demonstration", step)
        pairs = []
        for index in rng.choice(len(levels), size=batch, p=shares):
            (problem,) = generate(task, levels[index], 1, rng, exclude)
            pairs.append((problem.prompt, task.demonstration(problem, rng)))
        return pairs

    return batch_of_step
