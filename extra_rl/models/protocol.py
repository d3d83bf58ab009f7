"""The interface of a causal language model and of its tokenizer that this library uses.

Every model of transformers has these members, also when it is wrapped by an adapter, and so do the substitutes of
tests. Types do not tell which computations are correct for a model; the probe measures that at every load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CausalLM(Protocol):
    """A model that maps token ids (B, L) to logits (B, L, V)."""

    config: Any
    """Settings of the architecture; their names differ between families."""
    generation_config: Any
    name_or_path: str
    training: bool

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def base_model(self) -> Any:
        """The layers below the output head."""

    def __call__(self, *arguments: Any, **options: Any) -> Any: ...

    def generate(self, *arguments: Any, **options: Any) -> Any: ...

    def get_output_embeddings(self) -> Any: ...

    def get_input_embeddings(self) -> Any: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...

    def modules(self) -> Iterator[torch.nn.Module]: ...

    def named_modules(self) -> Iterator[tuple[str, torch.nn.Module]]: ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def eval(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def to(self, *arguments: Any, **options: Any) -> Any: ...

    def set_attn_implementation(self, attn_implementation: Any) -> None: ...

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None) -> None: ...

    def save_pretrained(self, save_directory: Any, **options: Any) -> Any: ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    chat_template: Any
    eos_token: Any
    bos_token: Any
    pad_token: Any
    eos_token_id: Any
    bos_token_id: Any
    pad_token_id: Any
    is_fast: bool
    backend_tokenizer: Any
    clean_up_tokenization_spaces: bool
    all_special_ids: list[int]
    all_special_tokens: list[str]
    added_tokens_decoder: Any

    def __len__(self) -> int: ...

    def __call__(self, *arguments: Any, **options: Any) -> Any: ...

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def decode(self, token_ids: Any, **options: Any) -> str: ...

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def convert_ids_to_tokens(self, ids: Any, **options: Any) -> Any: ...

    def convert_tokens_to_ids(self, tokens: Any) -> Any: ...

    def get_vocab(self) -> dict[str, int]: ...

    def save_pretrained(self, save_directory: Any, **options: Any) -> Sequence[Any]: ...
