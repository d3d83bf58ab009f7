"""A policy's directory as vLLM is to see it.

vLLM reads every safetensors file of a directory as weights, so neither optimizer nor adapter may lie there. And on a
CPU the head is packed into a copy, which a reload leaves as it was where the checkpoint has no `lm_head.weight`, as
that of a tied model has none: a stale head, logprobs off by 0.45 nats and no error. So there the head is written out.
"""

from __future__ import annotations

import json
from pathlib import Path

from extra_rl.models.policy import STATE_FILES
from extra_rl.models.protocol import CausalLM

HEAD = "lm_head.weight"
HEAD_FILE = "extra-lm-head.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def link_view(policy: Path, view: Path) -> None:
    """Links all files of a policy into the new folder `view`, but optimizer and adapter."""
    view.mkdir(parents=True)
    for path in policy.iterdir():
        if path.name not in STATE_FILES and path.is_file():
            (view / path.name).symlink_to(path.resolve())


def write_head(view: Path, model: CausalLM) -> None:
    """Adds `lm_head.weight` to a view where `model`, its transformers model, ties it to the embedding."""
    from safetensors.torch import save_file

    if not getattr(model.config, "tie_word_embeddings", False):
        return
    head = model.get_output_embeddings().weight.detach().contiguous()
    save_file({HEAD: head}, view / HEAD_FILE)
    index = view / INDEX_FILE
    if index.exists():  # what it does not list is not read
        listed = json.loads(index.read_text())
        listed["weight_map"][HEAD] = HEAD_FILE
        index.unlink()
        index.write_text(json.dumps(listed))
