"""How the tokens of a micro-batch lie: in padded rows, in one packed row, or in one where shared prefixes stand once.

Measured on a CPU (docs/arithmetic.md): one row with shared prefixes saves what is shared, and costs the same within 1 %
where nothing is, because attention is computed for each sequence at its own length. So `auto` takes it for every model
that it can be computed for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from extra_rl.errors import ConfigError
from extra_rl.forward.sequences import TokenSequence

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["auto", "padded", "packed", "shared_prefix"]

DESCRIPTION = (
    "how tokens lie in a micro-batch: `padded` rows; `packed`: one row without padding; `shared_prefix`: packed, and "
    "what several sequences begin with is computed once; `auto`: that, where every layer attends in full, else padded"
)
"""Of the key `layout` of the stages that have one."""


def can_pack(model: Any) -> bool:
    """Whether every layer of a transformers model attends in full, by an attention that can be exchanged."""
    kinds = set(getattr(model.config, "layer_types", None) or ())
    return kinds == {"full_attention"} and bool(getattr(model, "_supports_attention_backend", False))


def chosen(layout: Layout, model: Any) -> str:
    """What `auto` stands for; any other layout as it is. ConfigError where the model cannot be computed so."""
    if layout == "padded" or (layout == "auto" and not can_pack(model)):
        return "padded"
    if not can_pack(model):
        raise ConfigError(
            f"layout: {layout} needs a model whose layers all attend in full, and {model.config.model_type} has others "
            "or does not say (layer_types). Use `layout: auto` or `padded`."
        )
    return "shared_prefix" if layout == "auto" else layout


def token_statistics(
    model: Any, batch: Sequence[TokenSequence], temperature: float, precision: str, layout: str
) -> tuple[Tensor, Tensor, Tensor]:
    """logprob_BT, entropy_BT and mask_BT of `response_statistics`, computed in a layout that `chosen` gave."""
    if layout == "padded":
        from extra_rl.forward.statistics import response_statistics

        return response_statistics(model, batch, temperature, precision)
    from extra_rl.forward.packed import packed_statistics

    return packed_statistics(model, batch, temperature, precision, share=layout == "shared_prefix")
