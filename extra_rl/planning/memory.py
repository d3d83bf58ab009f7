"""Memory of the three stages that hold a model: bytes from a shape and the longest sequences that a stage may meet.

Every coefficient was counted on the CPU with `tests/planning/live_memory.py`, which follows the storages of all
tensors while the real sampler, scorer and trainer run; `tests/planning/test_memory.py` holds them to within a factor.
Not counted: the accelerator's context (about 1 GB), fragmentation (plan 10 to 20 % of room), buffers of kernels.
Source: our decision.
"""

from __future__ import annotations

from dataclasses import dataclass

from extra_rl.planning.shapes import Shape
from extra_rl.scoring.chunked_head import tile_shape
from extra_rl.scoring.head import WHOLE

BYTES = {"float32": 4, "bfloat16": 2}
"""Of a number. `bfloat16` samples with weights of that type; scoring and update compute the layers in it, over weights
in float32, with head and softmax in float32 (compute.precision)."""

GRADIENT, ADAM = 4, 8
"""Bytes a parameter: float32 gradient; AdamW's two moments."""

STEP_COPY = 4
"""Bytes a parameter while AdamW steps: its square roots. (Its state is copied to the host to be written.)"""

LOGIT_COPIES = 4
"""Float32 copies of logits that are few enough to be held whole, with a gradient or without (a bonus: one more)."""

TILES = 2
"""Of logits, else: the logits of one, and their exponentials."""

TIED_COPIES = 3
"""Of the gradient of a tied weight at the end of a backward pass: the head's, the embedding's and their sum."""

DRAW_COPIES = {True: 7.25, False: 6.0}
"""Float32 copies of one step's logits when a token is drawn, with and without top-p or top-k, beside the logits."""


MASK = 2
"""Bytes of a query and key of the mask that reads padded contexts (booleans, and one combination of two)."""


@dataclass(frozen=True)
class Lengths:
    """Tokens, at most, or at a mean: prompt, and response."""

    prompt: float
    response: float

    @property
    def total(self) -> float:
        return self.prompt + self.response


def sampler(
    shape: Shape, *, precision: str, rows: int, contexts: int, context: float, capacity: float, cut: bool
) -> dict[str, float]:
    """Peak of one decoding batch.

    rows: sequences decoded together. contexts: distinct contexts among them, read at once at the start. context:
    tokens of the longest. capacity: context and response of the longest row, for which all rows have room. cut: top-p
    or top-k.
    """
    size = BYTES[precision]
    return {
        "weights": float(size * shape.parameters),
        "keys and values": rows * capacity * shape.cache_bytes(size),
        "prefill": contexts * context * (forward_bytes(shape, precision) + MASK * context),
        "logits": rows * shape.vocabulary * 4 * (1 + DRAW_COPIES[cut]),
    }


def scorer(
    shape: Shape, *, precision: str, tokens_per_batch: int, longest: Lengths, device: str = "cuda"
) -> dict[str, float]:
    """Peak of `score_entropy`'s largest forward pass."""
    tokens, responses = largest_batch(tokens_per_batch, longest)
    return {
        "weights": 4.0 * shape.parameters,
        "cast weights": 2.0 * shape.layer_parameters * (precision == "bfloat16"),
        "activations": tokens * forward_bytes(shape, precision) + mask_bytes(tokens, precision),
        "logits": logit_bytes(shape, responses, device=device),
    }


def update(
    shape: Shape,
    *,
    precision: str,
    tokens_per_batch: int,
    longest: Lengths,
    checkpointing: bool,
    reference: bool = False,
    entropy_bonus: bool = False,
    trained: int | None = None,
    state: float | None = None,
    device: str = "cuda",
) -> dict[str, float]:
    """Peak of `update`: of its largest micro-batch, or of what comes after it where that is more: AdamW's step, or the
    gradients of a tied weight.

    reference: the frozen initial policy of a KL term is held too. trained: parameters with a gradient, None: all.
    state: bytes of the optimizer's, None: AdamW's over all weights.
    """
    trained = shape.parameters if trained is None else trained
    tokens, responses = largest_batch(tokens_per_batch, longest)
    kept, transient = activation_bytes(shape, precision, checkpointing=checkpointing)
    parts = {
        "weights": 4.0 * shape.parameters,
        "gradient": float(GRADIENT * trained),
        "optimizer": float(ADAM * trained) if state is None else state,
        "reference": 4.0 * shape.parameters * reference,
        "cast weights": 2.0 * shape.layer_parameters * (precision == "bfloat16"),
        "activations": tokens * (kept + transient),
        "masks": mask_bytes(tokens, precision) * (1 if checkpointing else shape.layers),
        "logits": logit_bytes(shape, responses, trained=True, entropy_bonus=entropy_bonus, device=device),
        "head gradient": 4.0 * shape.head_parameters * (trained == shape.parameters),  # frozen with adapters
    }
    batch = ("cast weights", "activations", "masks", "logits", "head gradient")
    tied = TIED_COPIES * 4.0 * shape.head_parameters * (shape.tied and trained >= shape.parameters)
    later, size = max(("optimizer step", float(STEP_COPY * trained)), ("tied gradients", tied), key=lambda p: p[1])
    if size > sum(parts[name] for name in batch):
        return {name: value for name, value in parts.items() if name not in batch} | {later: size}
    return parts


def largest_batch(tokens_per_batch: int, longest: Lengths) -> tuple[float, float]:
    """Padded tokens, and response tokens, of the largest micro-batch: one row at least, whatever its length.

    Several short rows can be nearly all response, so their bound is the whole batch.
    """
    tokens = max(float(tokens_per_batch), longest.total)
    return tokens, longest.response if longest.total > tokens_per_batch else tokens


def logit_bytes(
    shape: Shape, responses: float, *, trained: bool = False, entropy_bonus: bool = False, device: str = "cuda"
) -> float:
    """What the head and its softmax need for so many response tokens (extra_rl/scoring/head.py): a few copies of the
    logits where these are few, else two tiles, and the hidden states in float32 with their gradient."""
    if responses * shape.vocabulary <= WHOLE:
        return responses * 4.0 * (LOGIT_COPIES + entropy_bonus) * shape.vocabulary
    rows, columns = tile_shape(int(responses), shape.vocabulary, device)
    return TILES * 4.0 * rows * columns + (1 + trained) * 4.0 * responses * shape.hidden


def mask_bytes(tokens: float, precision: str) -> float:
    """Of one layer's attention mask in a padded batch of `tokens`, as numbers; two rows make it largest. A single row
    needs none."""
    return BYTES[precision] * tokens**2 / 2


def forward_bytes(shape: Shape, precision: str) -> float:
    """Live bytes of one token in a forward pass without gradient: residual, norms, the feed-forward layer's three."""
    return BYTES[precision] * (4.0 * shape.hidden + 3 * shape.intermediate)


def activation_bytes(shape: Shape, precision: str, *, checkpointing: bool) -> tuple[float, float]:
    """Bytes of one token that all layers keep for the backward pass, and that come and go with one layer.

    With gradient checkpointing a layer keeps its input only, and one layer at a time is computed again. Keys and values
    count at the size of the queries, because a padded batch repeats them.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if precision == "bfloat16":
        saved = 26 * shape.hidden + 8 * shape.intermediate + 14.5 * queries + 6.25 * keys
        layer = 34 * shape.hidden + 13 * shape.intermediate + 15.2 * queries + 7 * keys
    else:
        saved = 24 * shape.hidden + 16 * shape.intermediate + 24.5 * queries + 8.25 * keys
        layer = 24 * shape.hidden + 24 * shape.intermediate + 24.5 * queries + 8.25 * keys
    if checkpointing:
        return shape.layers * 4.0 * shape.hidden, layer
    return shape.layers * saved, 24.0 * shape.hidden + 6 * shape.intermediate
