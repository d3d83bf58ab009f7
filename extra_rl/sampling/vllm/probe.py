"""Does the engine sample from the policy that is trained? Both score the same tokens after every load.

An engine reads the weights by code of its own, and some ways of getting them wrong raise nothing: a tied head left
stale put every logprob off by 0.45 nats. Source: our decision.
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
    """Token ids to score, uniform over the vocabulary and the same every time; one place of the context stays free."""
    from extra_rl.seeding import generator

    width = min(LENGTH, context - 1)
    drawn = generator(0, "probe", vocabulary).integers(0, vocabulary, (ROWS, width))
    return [tuple(row) for row in drawn.tolist()]


def policy_logprobs(model: CausalLM, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """The policy's own logprob (nats, temperature 1) of every token but the first of each sequence, by its own forward
    pass. NumericalError where one is not finite."""
    from extra_rl.models.measure import own_statistics

    name = str(getattr(model.config, "_name_or_path", ""))
    return [own_statistics(model, sequence, name)[0] for sequence in sequences]


def refuse_another_policy(
    expected: Sequence[Sequence[float]], found: Sequence[Sequence[float]], tolerance: float, policy: Path
) -> Measurement:
    """How far the engine's logprobs of the probe are from the policy's own; NumericalError beyond the tolerance.

    expected: of the policy, found: of the engine, one a token. tolerance: on the mean of the absolute differences.
    """
    own = [value for row in expected for value in row]
    engine = [value for row in found for value in row]
    differences = [abs(a - b) for a, b in zip(own, engine, strict=True)]
    difference = fmean(differences)
    if not math.isfinite(fmean(own)):
        raise NumericalError(
            f"the policy {policy} gives logprobs that are not finite: its weights hold NaN or infinity. The update "
            "before it diverged: lower update.learning_rate. If it is the initial policy, mend the model."
        )
    if not difference <= tolerance:  # NaN is beyond any tolerance
        raise NumericalError(
            f"the engine does not sample from the policy {policy}: on {len(own)} probe tokens its logprobs are off by "
            f"{difference:.4f} nats on average, allowed are {tolerance:g} (mean logprob {fmean(engine):.4f} in the "
            f"engine, {fmean(own):.4f} in the policy itself). Its weights or kernels are not those of the policy: use "
            "sampling.backend: transformers, or another version of vLLM. If only rounding differs, raise "
            "sampling.probe_tolerance."
        )
    return Measurement("vllm engine", max(differences), difference, len(differences), 0.0)
