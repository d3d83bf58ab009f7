"""Small local models with a byte-level tokenizer and a chat template."""

from __future__ import annotations

from pathlib import Path


def small_model(directory: Path, seed: int = 0, positions: int = 512) -> Path:
    """A random Qwen3 in a directory of its own, as `save_pretrained` leaves it: no manifest."""
    from extra_rl.models.tokenizers import byte_level
    from extra_rl.training.warm_start import ModelShape, new_model

    shape = ModelShape(hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, intermediate=64, max_positions=positions)
    tokenizer = byte_level()
    new_model(tokenizer, shape, seed).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
