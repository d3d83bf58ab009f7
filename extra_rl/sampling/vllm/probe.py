"""The check that an engine samples from the policy that is trained: both score the same tokens after every load.

An engine reads the weights by its own code, and some errors there raise nothing: a stale tied head changed every
logprob by 0.45 nats. Source: our decision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from extra_rl.errors import NumericalError
from extra_rl.models.measure import Measurement
from extra_rl.models.protocol import CausalLM

ROWS, LENGTH = 8, 32


def probe_sequences(vocabulary: int, context: int) -> list[tuple[int, ...]]:
    """Return the token ids to score: fixed, uniform over the vocabulary, one shorter than the context at most."""
    from extra_rl.seeding import generator

    width = min(LENGTH, context - 1)  # scoring samples one token too
    drawn = generator(0, "probe", vocabulary).integers(0, vocabulary, (ROWS, width))
    return [tuple(row) for row in drawn.tolist()]


def policy_logprobs(model: CausalLM, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the model's own logprob (nats, temperature 1) of every token but the first of each sequence.

    Raises NumericalError where one is not finite.
    """
    from extra_rl.models.measure import own_statistics

    name = str(getattr(model.config, "_name_or_path", ""))
    return [own_statistics(model, sequence, name)[0] for sequence in sequences]


def refuse_another_policy(
    expected: Sequence[Sequence[float]], found: Sequence[Sequence[float]], tolerance: float, policy: Path
) -> Measurement:
    """Return the difference of the engine's logprobs from the policy's; NumericalError where it exceeds the tolerance.

    Args:
        expected: the policy's logprobs, one list per sequence.
        found: the engine's, in the same order.
        tolerance: for the mean of the absolute differences, nats.
        policy: named in the error.
    """
    own = [value for row in expected for value in row]
    engine = [value for row in found for value in row]
    differences = [abs(a - b) for a, b in zip(own, engine, strict=True)]
    difference = fmean(differences)
    if not math.isfinite(fmean(own)):
        raise NumericalError(
            f"the policy {policy} gives logprobs that are not finite: its weights contain NaN or infinity. The "
            "previous update diverged: lower update.learning_rate. If it is the initial policy, repair the model."
        )
    if not difference <= tolerance:  # true for NaN, which exceeds any tolerance
        raise NumericalError(
            f"the engine does not sample from the policy {policy}: on {len(own)} probe tokens their logprobs differ by "
            f"{difference:.4f} nats on average, the tolerance is {tolerance:g} (mean logprob {fmean(engine):.4f} in "
            f"the engine, {fmean(own):.4f} in the policy). The engine's weights or kernels are not the policy's: use "
            "sampling.backend: transformers, or another version of vLLM. If only rounding differs, raise "
            "sampling.probe_tolerance."
        )
    return Measurement("vllm engine", max(differences), difference, len(differences), 0.0)
