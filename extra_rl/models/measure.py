"""How far a path of computing is from the model's own forward pass, in nats, on a few sequences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from extra_rl.errors import ModelError, NumericalError
from extra_rl.models.attention import restore_attention

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

TOLERANCE = {"float32": (1e-3, 1e-4), "bfloat16": (0.6, 0.08), "float16": (0.2, 0.02)}
"""Largest and mean difference in nats from the reference that a path may have, by the type of the weights. Noise that
was measured: docs/models.md. A lost mask or window is off by 1 to 16 nats with wide random weights, 0.6 on average in
SmolLM2-135M."""

Rank = Literal["fast", "plain"]
Sequences = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
"""(prompt, response) in token ids."""


class Scored(NamedTuple):
    """What a path gives for one sequence: token ids, and of each response token logprob and entropy (None: it has no
    entropies), in nats at temperature 1."""

    prompt: Sequence[int]
    response: Sequence[int]
    logprobs: Sequence[float]
    entropies: Sequence[float] | None


@dataclass(frozen=True)
class Path:
    """A way of computing, as a room offers it. compute: runs it on sequences (the sampler samples its own responses of
    the same lengths)."""

    name: str
    rank: Rank
    compute: Callable[[Sequences], list[Scored]]


@dataclass(frozen=True)
class Measurement:
    """How far a path is from the reference: largest and mean difference in nats, over so many values; fault: why it
    could not be computed, or empty."""

    path: str
    largest: float
    mean: float
    values: int
    seconds: float
    fault: str = ""

    def holds(self, tolerance: tuple[float, float]) -> bool:
        """Whether the path may be used. tolerance: on the largest and on the mean difference."""
        return not self.fault and self.largest <= tolerance[0] and self.mean <= tolerance[1]

    @property
    def text(self) -> str:
        if self.fault:
            return f"{self.path} failed ({self.fault})"
        if not math.isfinite(self.largest):
            return f"{self.path} gives numbers that are not finite"
        return f"{self.path} differs by up to {self.largest:.2g} nats from the model's own forward pass"


def own_statistics(
    model: CausalLM, tokens: Sequence[int], name: str, first: int = 1
) -> tuple[list[float], list[float]]:
    """The reference: logprob and entropy of every token from `first` on, nats, temperature 1.

    By the model's own forward pass over one sequence without cache and padding. name: of the model, for the error.

    Raises NumericalError where a logit is not finite, ModelError where the forward pass itself fails.
    """
    import torch

    restore_attention(model)
    tokens_1L = torch.tensor([tokens], device=next(model.parameters()).device)
    try:
        with torch.inference_mode():
            logits_TV: Tensor = model(input_ids=tokens_1L, use_cache=False).logits[0, first - 1 : -1].float()
    except Exception as error:  # of the family's own code
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(
            f"{name}: the model's own forward pass over {len(tokens)} tokens fails ({reason}). Check its "
            "configuration, and whether transformers alone can run it."
        ) from error
    if not bool(logits_TV.isfinite().all()):
        raise NumericalError(
            f"the policy {name} gives logprobs that are not finite: its weights are not finite, or so large that its "
            "logits overflow. The update before it diverged: lower update.learning_rate. If it is the initial policy, "
            "mend the model."
        )
    log_p_TV = logits_TV.log_softmax(-1)
    logprob_T = log_p_TV.gather(1, tokens_1L[0, first:, None]).squeeze(1)
    entropy_T = -(log_p_TV.exp() * log_p_TV).sum(-1)
    return logprob_T.tolist(), entropy_T.tolist()


def measured(
    model: CausalLM,
    path: Path,
    sequences: Sequences,
    reference: Callable[[Any, Sequence[int], Sequence[int]], tuple[list[float], list[float]]],
) -> Measurement:
    """The path on the sequences, against reference(model, prompt, response). The model is in evaluation mode meanwhile.

    What a path raises is kept as its fault; what the reference raises is raised.
    """
    import torch

    started = time.perf_counter()
    differences: list[float] = []
    fault = ""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        try:
            with torch.inference_mode():
                scored = path.compute(sequences)
        except Exception as error:  # whatever a family's code raises: this path is not for it, and the reason is kept
            scored, fault = [], f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0][:200]
        for one in scored:
            logprobs, entropies = reference(model, one.prompt, one.response)
            differences += [abs(a - b) for a, b in zip(logprobs, one.logprobs, strict=True)]
            if one.entropies is not None:
                differences += [abs(a - b) for a, b in zip(entropies, one.entropies, strict=True)]
    finally:
        for module in training:
            module.training = True
    finite = [d if math.isfinite(d) else math.inf for d in differences]
    largest, mean = (max(finite), sum(finite) / len(finite)) if finite else (math.inf, math.inf)
    return Measurement(path.name, largest, mean, len(finite), time.perf_counter() - started, fault)
