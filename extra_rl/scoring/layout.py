"""The layout of a micro-batch: padded rows, one packed row, or one packed row that contains shared prefixes once.

Measured on a CPU (docs/arithmetic.md): sharing prefixes saves what is shared, and costs the same within 1 % where
nothing is, because attention is computed for each sequence at its own length. So `auto` chooses it for every model for
which it gives the numbers of the model's own forward pass (`models.probe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from extra_rl.errors import ConfigError
from extra_rl.models.measure import Path, Scored, Sequences
from extra_rl.models.probe import probe_of
from extra_rl.scoring.batches import TokenSequence

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

Layout = Literal["auto", "padded", "packed", "shared_prefix"]

DESCRIPTION = (
    "layout of a micro-batch: `padded` rows; `packed`: one row without padding; `shared_prefix`: packed, with shared "
    "prefixes computed once; `auto`: `shared_prefix` where it gives the numbers of the model's own forward pass, else "
    "`padded`"
)
"""Description of the key `layout` in the stages that have one."""

RANKS: dict[str, Literal["fast", "plain"]] = {"shared_prefix": "fast", "padded": "fast", "plain": "plain"}
"""Layouts that `auto` tries, fastest first. `plain`: padded rows by the family's own forward pass, head included."""


def chosen(layout: Layout, model: CausalLM) -> str:
    """Return the layout to use: for `auto` the first of RANKS that gives the numbers of the model's own forward pass.

    The model is measured at the first call. `padded` may become `plain`. Raises ConfigError where the model cannot be
    computed in the configured layout, ModelError where it cannot be computed in any.
    """
    probe = probe_of(model)
    if layout in ("auto", "padded"):
        names = [name for name in RANKS if layout == "auto" or name != "shared_prefix"]
        what = "scoring" if layout == "auto" else "scoring in padded rows"  # separate decisions
        return probe.first_that_holds(what, model, [_path(name, model, RANKS[name]) for name in names])
    path = _path(layout, model, "fast")
    if not probe.holds(model, path):
        why = next(m.text for m in probe.measurements if m.path == path.name)
        raise ConfigError(f"layout: {layout} cannot be used for {probe.name}: {why}. Use `layout: auto` or `padded`.")
    return layout


def budget_of(layout: str, model: CausalLM, tokens_per_batch: int) -> int:
    """Return the tokens of a micro-batch in a layout of `chosen`: fewer than configured where logits are held whole."""
    if layout != "plain":
        return tokens_per_batch
    from extra_rl.scoring.statistics import plain_tokens

    return plain_tokens(model, tokens_per_batch)


def token_statistics(
    model: CausalLM, batch: Sequence[TokenSequence], temperature: float, precision: str, layout: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logprob_BT, entropy_BT and mask_BT, as `response_statistics` does, in a layout of `chosen`.

    Args:
        model: the policy.
        batch: B sequences.
        temperature: divides the logits.
        precision: `float32` or `bfloat16`, of the layers.
        layout: as `chosen` returns it.
    """
    from extra_rl.scoring.packed import packed_statistics
    from extra_rl.scoring.statistics import plain_statistics, response_statistics

    if layout == "plain":
        return plain_statistics(model, batch, temperature, precision)
    if layout == "padded":
        return response_statistics(model, batch, temperature, precision)
    return packed_statistics(model, batch, temperature, precision, share=layout == "shared_prefix")


def _path(layout: str, model: CausalLM, rank: Literal["fast", "plain"]) -> Path:
    return Path(layout, rank, partial(_score, layout, model))


def _score(layout: str, model: CausalLM, sequences: Sequences) -> list[Scored]:
    """Score the sequences in one micro-batch of that layout, for the probe."""
    batch = [TokenSequence(prompt, response) for prompt, response in sequences]
    logprob_BT, entropy_BT, mask_BT = token_statistics(model, batch, 1.0, "float32", layout)
    rows = zip(batch, logprob_BT, entropy_BT, mask_BT, strict=True)
    return [Scored(s.prompt, s.response, logprob[m].tolist(), entropy[m].tolist()) for s, logprob, entropy, m in rows]
