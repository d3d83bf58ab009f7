"""One function for the whole probe of a model: every path of sampling and scoring that a run would use."""

from __future__ import annotations

from extra_rl.models.probe import Probe, probe_of
from extra_rl.models.protocol import CausalLM
from extra_rl.sampling.transformers import sampling_path
from extra_rl.scoring.layout import chosen


def probe(model: CausalLM, *, tokens: int | None = None) -> Probe:
    """What holds for a loaded model: its paths for sampling and scoring, measured against its own forward pass.

    tokens: length of the longest probe sequence, to reach a window that is longer than what is affordable at each load;
    None: as at each load. Raises ModelError where nothing holds (the measurements are in `probe_of(model)` even then),
    NumericalError where the model's own logits are not finite.
    """
    found = probe_of(model, tokens)
    sampling_path(model)
    chosen("auto", model)
    return found
