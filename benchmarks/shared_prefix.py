"""What it saves to compute shared prefixes once: forward and backward pass of a group of rollouts, in every layout.

    python benchmarks/shared_prefix.py [--repetitions 3] [--hidden 512] [--layers 8] [--tokens 512] [--group 8]

A random Qwen3, one thread, float32; a group of 8 rollouts of 512 tokens, the prompt of 64 included, in three loads:
  regenerated  all share the prompt and a prefix of half of their length
  prompt       all share the prompt alone
  nothing      no two begin with the same token
and, as `lengths`, 24 sequences of 64 to 384 tokens that share nothing, in micro-batches of 8192 tokens.
The layouts take turns; each repetition has tokens of its own, equal for all; the first one warms up. Printed: medians
of CPU-seconds and of the growth of resident memory at its peak (Linux counts it), beside the padded layout's, and the
largest difference of the gradient, relative to its largest entry. About 6 CPU-minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import re
import statistics
import time
from pathlib import Path
from typing import Any

LAYOUTS = ("padded", "packed", "shared_prefix")
VOCABULARY, PROMPT, BUDGET = 1024, 64, 8192


def new_model(hidden: int, layers: int) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config)


def load(name: str, rng: random.Random, tokens: int, group: int) -> list[Any]:
    """The sequences of a load."""
    from extra_rl.scoring.batches import TokenSequence

    def draw(count: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(count)]

    if name == "lengths":
        return [TokenSequence([i], draw(rng.randint(64, 384) - 1)) for i in range(24)]
    prompt = draw(PROMPT)
    shared = draw(tokens // 2 - PROMPT) if name == "regenerated" else []
    rollouts = []
    for i in range(group):
        own = [i, *draw(tokens - PROMPT - len(shared) - 1)]
        rollouts.append(TokenSequence([i, *prompt[1:]] if name == "nothing" else prompt, [*shared, *own]))
    return rollouts


def memory(key: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def measure(model: Any, sequences: list[Any], layout: str) -> tuple[float, float, Any]:
    """CPU-seconds, growth of resident memory at its peak in MiB, and the gradient."""
    import torch

    from extra_rl.scoring.batches import fill, pieces_of
    from extra_rl.scoring.layout import token_statistics

    model.zero_grad(set_to_none=False)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, started = memory("VmRSS"), time.process_time()
    for batch in fill(pieces_of(sequences, layout, BUDGET), layout, BUDGET):
        rows = [sequences[row] for row in batch.rows]
        logprob_BT, _, mask_BT = token_statistics(model, rows, 1.0, "float32", layout)
        sign_B1 = torch.tensor([[1.0 if row % 2 else -1.0] for row in batch.rows])
        (logprob_BT * sign_B1)[mask_BT].sum().backward()
    seconds = time.process_time() - started
    peak = (memory("VmHWM") - before) / 2**20
    return seconds, peak, torch.cat([p.grad.flatten() for p in model.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    for name, default in (("repetitions", 3), ("hidden", 512), ("layers", 8), ("tokens", 512), ("group", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    model = new_model(options.hidden, options.layers)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    print(f"{'load':12} {'layout':14} {'CPU-s':>7} {'of padded':>9} {'MiB':>7} {'of padded':>9} {'gradient':>9}")
    for name in ("regenerated", "prompt", "nothing", "lengths"):
        found: dict[str, list[tuple[float, float, float]]] = {layout: [] for layout in LAYOUTS}
        for repetition in range(options.repetitions + 1):
            sequences = load(name, random.Random(repetition), options.tokens, options.group)
            gradients = {}
            for layout in LAYOUTS:
                seconds, peak, gradients[layout] = measure(model, sequences, layout)
                expected = gradients["padded"]
                off = float((gradients[layout] - expected).abs().max() / expected.abs().max())
                if repetition:
                    found[layout].append((seconds, peak, off))
        base = [statistics.median(values) for values in zip(*found["padded"], strict=True)]
        for layout, rows in found.items():
            seconds, peak, off = (statistics.median(values) for values in zip(*rows, strict=True))
            print(
                f"{name:12} {layout:14} {seconds:7.2f} {seconds / base[0]:9.2f} {peak:7.0f} {peak / base[1]:9.2f} "
                f"{off:9.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
