"""Measure how much a way of computing differs from the model's own forward pass, in nats, on a few sequences."""

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
"""Allowed largest and mean difference from the reference in nats, by the type of the weights. Measured noise:
docs/models.md. Without a mask or window the difference is 1 to 16 nats with wide random weights, and 0.6 on average in
SmolLM2-135M."""

Rank = Literal["fast", "plain"]
Sequences = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
"""(prompt, response) in token ids."""


class Scored(NamedTuple):
    """The result of a path for one sequence: token ids, and logprob and entropy of each response token.

    Both are in nats at temperature 1. entropies: None where the path computes none.
    """

    prompt: Sequence[int]
    response: Sequence[int]
    logprobs: Sequence[float]
    entropies: Sequence[float] | None


@dataclass(frozen=True)
class Path:
    """A way of computing logprobs.

    compute: runs it on sequences. A sampler samples its own responses of the same lengths.
    """

    name: str
    rank: Rank
    compute: Callable[[Sequences], list[Scored]]


@dataclass(frozen=True)
class Measurement:
    """Difference of a path from the reference.

    largest, mean: absolute difference in nats, over the number of `values`. seconds: time of the measurement. fault:
    why the path could not be computed; empty: it could.
    """

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
        """The result in words, for messages."""
        if self.fault:
            return f"{self.path} failed ({self.fault})"
        if not math.isfinite(self.largest):
            return f"{self.path} gives numbers that are not finite"
        return f"{self.path} differs by up to {self.largest:.2g} nats from the model's own forward pass"


def own_statistics(
    model: CausalLM, tokens: Sequence[int], name: str, first: int = 1
) -> tuple[list[float], list[float]]:
    """The reference: logprob and entropy of every token from `first` on, in nats at temperature 1.

    Computed by the model's own forward pass over one sequence, without cache and padding.

    Args:
        model: its own attention is restored.
        tokens: the sequence.
        name: of the model, for errors.
        first: index of the first token of the result.
    Raises NumericalError where a logit is not finite, ModelError where the forward pass fails.
    """
    import torch

    restore_attention(model)
    tokens_1L = torch.tensor([tokens], device=next(model.parameters()).device)
    try:
        with torch.inference_mode():
            logits_TV: Tensor = model(input_ids=tokens_1L, use_cache=False).logits[0, first - 1 : -1].float()
    except Exception as error:  # the family's own code can raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(
            f"{name}: the model's own forward pass over {len(tokens)} tokens fails ({reason}). Check its "
            "configuration, and whether transformers alone can run it."
        ) from error
    if not bool(logits_TV.isfinite().all()):
        raise NumericalError(
            f"the policy {name} gives logprobs that are not finite: its weights are not finite, or so large that its "
            "logits overflow. The update before it diverged: lower update.learning_rate. If it is the initial policy, "
            "repair the model."
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
    """Compare a path with the reference on sequences. The model is in evaluation mode meanwhile.

    An error of the path becomes its fault; an error of the reference is raised.

    Args:
        model: the loaded model.
        path: to be measured.
        sequences: (prompt, response) in token ids.
        reference: maps (model, prompt, response) to logprobs and entropies of the response.
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
        except Exception as error:  # any error of a family's code means that this path does not support it
            scored, fault = [], f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0][:200]
        for one in scored:
            logprobs, entropies = reference(model, one.prompt, one.response)
            differences += [abs(a - b) for a, b in zip(logprobs, one.logprobs, strict=True)]
            if one.entropies is not None:
                differences += [abs(a - b) for a, b in zip(entropies, one.entropies, strict=True)]
    finally:
        for module in training:
            module.training = True
    # NaN and an empty result count as infinitely different, so that such a path is never used.
    finite = [d if math.isfinite(d) else math.inf for d in differences]
    largest, mean = (max(finite), sum(finite) / len(finite)) if finite else (math.inf, math.inf)
    return Measurement(path.name, largest, mean, len(finite), time.perf_counter() - started, fault)
