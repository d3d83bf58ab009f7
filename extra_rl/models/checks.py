"""Checks of a loaded model: complete, finite, causal, not quantised, with an embedding for every token id."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.models.files import listed
from extra_rl.models.protocol import CausalLM, Tokenizer


def require_complete(source: str, model: CausalLM, report: Mapping[str, Any]) -> None:
    """Raise ModelError where checkpoint and model differ in the name or shape of a tensor.

    Without this check a missing tensor keeps its random initialisation.
    report: loading report of transformers (`output_loading_info=True`), without tied heads and the tensors that a
    family lists as ignorable.
    """
    mismatched = sorted(report.get("mismatched_keys") or (), key=lambda found: str(found[0]))
    missing = set(report.get("missing_keys") or ()) - {found[0] for found in mismatched}
    unexpected = set(report.get("unexpected_keys") or ())
    problems = []
    if missing:
        problems.append(f"{len(missing)} of the model's tensors are missing ({listed(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} tensors do not belong to the model ({listed(unexpected)})")
    if mismatched:
        name, stored, expected = mismatched[0]
        problems.append(
            f"{len(mismatched)} tensors have another shape, first {name}: {tuple(stored)} in the checkpoint, "
            f"{tuple(expected)} by its config.json"
        )
    for key in ("error_msgs", "conversion_errors"):
        if found := report.get(key):
            problems.append(f"{len(found)} tensors could not be converted ({listed(map(str, found), 1)[:200]})")
    if problems:
        raise ModelError(
            f"{source}: its weights are not those of a {type(model).__name__}: {'; '.join(problems)}. "
            f"{_advice(missing, unexpected)}"
        )


def _advice(missing: set[str], unexpected: set[str]) -> str:
    """What to do, by the names of missing and unexpected tensors."""
    for name in sorted(unexpected):
        expected = next((other for other in missing if name.endswith(f".{other}")), None)
        if expected:
            prefix = name.removesuffix(expected)
            return f"The names begin with `{prefix}`, the prefix of a training wrapper: save the model within it."
    return "Use the config.json that belongs to these weights, or export the checkpoint again with save_pretrained."


def require_finite(source: str, model: CausalLM, cause: str) -> None:
    """Raise ModelError with the tensors that contain NaN or infinity.

    The sum of each tensor is checked first, at memory bandwidth; its elements only if the sum is not finite.
    cause: the end of the message, with the cause and what to do.
    """
    import torch

    with torch.inference_mode():
        named = [
            (name, value)
            for name, value in (*model.named_parameters(), *model.named_buffers())
            if value.is_floating_point() and value.numel() and not value.is_meta
        ]
        sums = [value.sum(dtype=torch.float32) for _, value in named]
        if not sums or bool(torch.isfinite(torch.stack(sums)).all()):
            return
        suspects = [found for found, total in zip(named, sums, strict=True) if not torch.isfinite(total)]
        # The sum of large finite numbers can overflow, and a buffer may contain -inf as a mask.
        parameters = {name for name, _ in model.named_parameters()}
        bad = [
            name
            for name, value in suspects
            if bool(torch.isnan(value).any()) or (name in parameters and not bool(torch.isfinite(value).all()))
        ]
    if bad:
        raise ModelError(f"{source}: {len(bad)} weight tensors contain NaN or infinity ({listed(bad)}). {cause}")


def require_causal(source: str, model: CausalLM) -> None:
    """Raise ModelError for an encoder, such as BERT, which loads as a language model whose tokens attend to later ones.

    Only families that also exist as masked language models are tested: another last token must not change the logits of
    the first.
    """
    import torch
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{source}: {type(model).__name__} is an encoder-decoder. {DECODER_ONLY}")
    if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING:
        return
    tokens_BT = torch.tensor([[2, 3, 4], [2, 3, 5]], device=model.device)
    with torch.inference_mode():
        logits_BV = model(input_ids=tokens_BT).logits[:, 0].float()
    if not torch.allclose(logits_BV[0], logits_BV[1], atol=1e-5, rtol=1e-4):
        raise ModelError(
            f"{source}: {type(model).__name__} is an encoder: its tokens attend to later tokens. {DECODER_ONLY}"
        )


DECODER_ONLY = "Name a causal (decoder-only) language model."


def require_float(source: str, model: CausalLM) -> None:
    """Raise ModelError for quantised weights: they cannot be trained or saved as an ordinary policy."""
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if not p.is_floating_point()})
    eight_bits = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.element_size() < 2})
    if kinds or eight_bits:
        raise ModelError(
            f"{source}: the checkpoint is quantised ({', '.join(kinds or eight_bits)} weights), which cannot be "
            "trained. Name the model's checkpoint in bfloat16, float16 or float32."
        )


def require_vocabulary(source: str, model: CausalLM, tokenizer: Tokenizer) -> None:
    """Raise ModelError where the tokenizer has ids without a row in the model's embedding.

    A special token that does not occur in text, such as Gemma 3's for images, is only reported on standard error.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    if not beyond:
        return
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    needed = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    used = {token: index for token, index in beyond.items() if token not in special or token in needed}
    names = listed(f"{token!r} (id {index})" for token, index in (used or beyond).items())
    if used:
        raise ModelError(
            f"{source}: the tokenizer has tokens beyond the model's embedding of {rows:,} rows: {names}. Use the "
            "tokenizer that belongs to these weights, or resize the embedding (resize_token_embeddings) and train it."
        )
    print(
        f"WARNING {source}: special tokens beyond the embedding of {rows:,} rows must not occur in a prompt: {names}.",
        file=sys.stderr,
        flush=True,
    )
