"""The warm start: supervised learning of a policy, new or pretrained, on worked solutions of a task.

RL needs a policy that is sometimes correct. Supervised learning on valid solutions makes one; it is stopped early, so
that RL has something left to learn. Source: our decision (O).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError, ModelError, NumericalError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3ForCausalLM

    from extra_rl.tasks.demonstrations import TokenPair

IGNORED = -100
"""Label of positions that carry no loss."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a Qwen3. vLLM's attention kernels need head_dim >= 32."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    max_positions: int


@dataclass(frozen=True)
class WarmStartMetrics:
    """first_loss, last_loss: mean cross-entropy (nats per token) of the first and the last step.

    steps: optimizer steps taken. trained_tokens: response tokens that carried loss, eos included.
    """

    first_loss: float
    last_loss: float
    steps: int
    trained_tokens: int


def new_model(tokenizer: PreTrainedTokenizerFast, shape: ModelShape, seed: int) -> Qwen3ForCausalLM:
    """Return a Qwen3 with random weights in float32, tied embeddings, and the tokenizer's special ids.

    Weights are normal with standard deviation hidden^-1/2. They depend on shape, vocabulary size and seed alone.
    Raises ModelError where the tokenizer has no pad, bos or eos token.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    special_ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if None in special_ids.values():
        raise ModelError(f"the tokenizer must have pad, bos and eos tokens, but has {special_ids}.")
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.max_positions,
        # At width 64 transformers' 0.02, which suits wide models, took 1250 steps to reach the loss of 700 steps here.
        initializer_range=shape.hidden**-0.5,
        tie_word_embeddings=True,
        dtype="float32",
        **special_ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Qwen3ForCausalLM = Qwen3ForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=1.0, top_p=1.0, top_k=0, **special_ids)
    return model


def train(
    model: PreTrainedModel,
    sample_batch: Callable[[int, int], Sequence[TokenPair]],
    *,
    steps: int,
    stop_at: int,
    batch: int,
    lr: float,
    warmup: int,
    weight_decay: float,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> WarmStartMetrics:
    """Train in place with AdamW; the loss is on the responses only.

    The learning rate rises over `warmup` steps, then follows a cosine to 0 at `steps`. Nothing here draws random
    numbers: the same thread count gives the same bits. Raises ConfigError unless 1 <= stop_at <= steps, and
    NumericalError when the loss is not finite.

    Args:
        model: the policy.
        sample_batch: (step, batch) -> pairs of prompt and response tokens.
        steps: optimizer steps of the whole schedule.
        stop_at: optimizer steps after which training ends.
        batch: pairs per step.
        lr: peak learning rate.
        warmup: steps over which the learning rate rises.
        weight_decay: AdamW's.
        on_step: called with (step, loss) after each step.
    """
    import torch

    if not 1 <= stop_at <= steps:
        raise ConfigError(f"warm start: stop_at must be in 1..steps = 1..{steps}, but is {stop_at}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, warmup, steps))
    model.train()
    losses: list[float] = []
    trained_tokens = 0
    for step in range(stop_at):
        pairs = sorted(sample_batch(step, batch), key=lambda pair: len(pair[0]) + len(pair[1]))
        token_count = sum(len(response) for _, response in pairs)
        optimizer.zero_grad()
        loss = 0.0
        # Short and long texts in separate passes: half of a mixed batch would be padding.
        middle = math.ceil(len(pairs) / 2)
        for part in filter(None, (pairs[:middle], pairs[middle:])):
            part_loss = summed_loss(model, part) / token_count
            part_loss.backward()  # type: ignore[no-untyped-call]
            loss += part_loss.item()
        if not math.isfinite(loss):
            raise NumericalError(f"warm start: loss {loss} at step {step}; lower the learning rate ({lr})")
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss)
        trained_tokens += token_count
        on_step(step, loss)
    model.eval()
    return WarmStartMetrics(losses[0], losses[-1], stop_at, trained_tokens)


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Factor of the peak learning rate: a linear rise over `warmup` steps, then a cosine to 0.

    (step + 1) / warmup; then (1 + cos(pi (step - warmup) / (steps - warmup))) / 2.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def summed_loss(model: PreTrainedModel, pairs: Sequence[TokenPair]) -> torch.Tensor:
    """Return the cross-entropy (nats), summed over the response tokens of all pairs.

    Padding is on the right and carries no loss. Attention is causal, so no text attends to it; the mask is for models
    that are not purely causal.
    """
    import torch

    longest = max(len(prompt) + len(response) for prompt, response in pairs)
    tokens_BT = torch.zeros((len(pairs), longest), dtype=torch.long)
    valid_BT = torch.zeros_like(tokens_BT)
    labels_BT = torch.full_like(tokens_BT, IGNORED)
    for row, (prompt, response) in enumerate(pairs):
        length = len(prompt) + len(response)
        tokens_BT[row, :length] = torch.tensor([*prompt, *response])
        valid_BT[row, :length] = 1
        labels_BT[row, len(prompt) : length] = torch.tensor(response)
    logits_BTV = model(
        input_ids=tokens_BT.to(model.device), attention_mask=valid_BT.to(model.device), use_cache=False
    ).logits
    labels_BT = labels_BT.to(model.device)
    # The logits at a position predict the next token: shifted by one.
    return torch.nn.functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
