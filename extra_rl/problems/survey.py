"""Survey of a file of problems: columns, prompts, duplicates, reference answers, overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.check import REASONS, is_prose
from extra_rl.models.protocol import Tokenizer
from extra_rl.problems.clean import Removed, Separated, without_overlap, without_repetition, without_unverifiable
from extra_rl.problems.prepared import PreparedProblem, prepared
from extra_rl.problems.sources import RawProblem, Source

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Survey:
    """The results of `survey`.

    Args:
        prompts: every problem as the model reads it, by ascending number of tokens.
        repeated: problems that repeat or contradict another one.
        unmatched: problems whose reference answer does not match itself.
        prose: problems whose reference answer is not mathematics.
        overlap: what the benchmarks remove; None: there are none to compare with.
    """

    source: Source
    prompts: list[PreparedProblem]
    repeated: list[Removed]
    unmatched: list[Removed]
    prose: list[RawProblem]
    overlap: Separated | None

    @property
    def faults(self) -> int:
        """Rows that `prepare` would refuse or leave out, some of them counted twice."""
        removed = len(self.overlap.removed) if self.overlap else 0
        return len(self.source.missing) + len(self.repeated) + len(self.unmatched) + len(self.prose) + removed

    @property
    def token_quantiles(self) -> list[int]:
        """Prompt tokens at `QUANTILES`; none where there is no problem."""
        if not self.prompts:
            return []
        last = len(self.prompts) - 1
        return [len(self.prompts[round(share * last)].prompt_tokens) for share in QUANTILES]

    @property
    def examples(self) -> list[PreparedProblem]:
        """The shortest, the median and the longest prompt; fewer where there are fewer problems."""
        numbers = dict.fromkeys((0, len(self.prompts) // 2, len(self.prompts) - 1) if self.prompts else ())
        return [self.prompts[number] for number in numbers]


def survey(
    source: Source,
    task: TaskConfig,
    tokenizer: Tokenizer,
    verifier: VerifierConfig,
    *,
    benchmarks: Sequence[RawProblem] = (),
    template_share: float,
    progress: Callable[[int], object] | None = None,
) -> Survey:
    """Examine the problems of a source as `prepare` would, without removing any.

    Args:
        source: read with `missing: drop`, so that rows without a value are counted.
        task: how prompts are rendered.
        tokenizer: of the model that reads the prompts.
        verifier: policy and limits for the reference answers.
        benchmarks: what the problems must not overlap.
        template_share: as in `without_overlap`.
        progress: called with the number of reference answers that were checked since the last call.

    Raises what `render` raises.
    """
    problems = source.problems
    prompts = sorted(prepared(problems, "train", task, tokenizer), key=lambda problem: len(problem.prompt_tokens))
    return Survey(
        source,
        prompts,
        without_repetition(problems, verifier)[1],
        without_unverifiable(problems, verifier, progress)[1],
        [problem for problem in problems if is_prose(problem.answer)],
        without_overlap(problems, benchmarks, template_share) if benchmarks else None,
    )


def roles_of(problems: Sequence[RawProblem]) -> Counter[str]:
    """Return how many messages of each role the conversations have; empty where every problem is a text."""
    return Counter(
        message.role for problem in problems if problem.conversation for message in problem.conversation.messages
    )


def reason_of(removed: Removed) -> str:
    """Return why a reference answer does not match itself, without the answer."""
    reason = removed.reason.rpartition(": ")[2]
    return reason if reason in REASONS.values() else removed.reason
