"""A policy's directory as vLLM reads it.

vLLM reads every safetensors file of a directory as weights, so the optimizer's and the adapter's must be hidden. On a
CPU vLLM packs the head into a copy, which a reload does not update where the checkpoint has no `lm_head.weight`, as for
a tied model: the stale head changed logprobs by 0.45 nats, without an error. So the head is written out there.
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
    """Link all files of a policy but optimizer and adapter into the new folder `view`."""
    view.mkdir(parents=True)
    for path in policy.iterdir():
        if path.name not in STATE_FILES and path.is_file():
            (view / path.name).symlink_to(path.resolve())


def write_head(view: Path, model: CausalLM) -> None:
    """Add `lm_head.weight` to a view where `model`, the policy's transformers model, ties it to the embedding."""
    from safetensors.torch import save_file

    if not getattr(model.config, "tie_word_embeddings", False):
        return
    head = model.get_output_embeddings().weight.detach().contiguous()
    save_file({HEAD: head}, view / HEAD_FILE)
    index = view / INDEX_FILE
    if index.exists():  # vLLM reads only the tensors that it lists
        listed = json.loads(index.read_text())
        listed["weight_map"][HEAD] = HEAD_FILE
        index.unlink()
        index.write_text(json.dumps(listed))
