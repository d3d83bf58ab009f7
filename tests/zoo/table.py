"""docs/models.md, made from what the probe measures of the zoo: `python -m tests.zoo.table > docs/models.md`."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator

import torch

from extra_rl.forward.layout import chosen
from extra_rl.models import family
from extra_rl.models.probe import TOLERANCE, Probe, probe_of
from extra_rl.sampling.transformers import sampling_path
from tests.zoo.families import FAMILIES, build, shared, untouched

COMMAND = "python -m tests.zoo.table > docs/models.md"
BEST = ("in-place cache", "shared_prefix")
HEADER = ("family", "sampling", "scoring and update", "particulars", "largest difference", "why no faster path")


def measured(name: str) -> Probe:
    """The probe of a row's model, with both decisions."""
    model = shared(name)
    with contextlib.redirect_stderr(io.StringIO()):
        sampling_path(model)
        chosen("auto", model)
    return probe_of(model)


def row(name: str) -> tuple[str, ...]:
    """The cells of a family; differences by order of magnitude, as their digits depend on the machine."""
    probe = measured(name)
    decisions = [probe.decisions[what] for what in ("sampling", "scoring")]
    used = [next(m for m in probe.measurements if m.path == decision.path) for decision in decisions]
    bound = max(-4, math.ceil(math.log10(max(m.largest for m in used))))
    return (
        name,
        *(f"{decision.rank}: {decision.path}" for decision in decisions),
        particulars(name),
        f"< 1e{bound}",
        why(probe),
    )


def why(probe: Probe) -> str:
    """Why the probe refused the best paths, without digits and class names; empty where they are used."""
    reasons = {
        m.path: (m.fault.partition(": ")[2].rstrip(".") if m.fault else "the numbers differ").replace(probe.name, "it")
        for m in probe.measurements
        if m.path in BEST and m.path not in {decision.path for decision in probe.decisions.values()}
    }
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"`{path}`: {reason}" for path, reason in reasons.items())


def particulars(name: str) -> str:
    """Windows, transform of the logits, sinks and experts."""
    model, probe = untouched(name), measured(name)
    names = [parameter for parameter, _ in model.named_parameters()]

    def found() -> Iterator[str]:
        if windows := family.windows(model):
            kind = "window" if any("window" in key for key in FAMILIES[name].values) else "chunks"
            yield f"{kind} {windows[0]}"
        if probe.logits != "as they are":
            yield "logits projected" if probe.logits == "own" else f"logits: {probe.logits}"
        if any(parameter.endswith("sinks") for parameter in names):
            yield "sinks"
        if any(".experts." in parameter for parameter in names):
            yield "experts"

    return ", ".join(found())


def soft_cap_difference() -> float:
    """Largest difference in nats of Gemma 2 between the attention that transformers loads by default and its eager
    one, which computes the soft cap of the attention."""
    tokens_1L = torch.arange(3, 43)[None]
    with torch.inference_mode():
        both = [
            build("Gemma 2", attn_implementation=name)(tokens_1L).logits.log_softmax(-1) for name in ("sdpa", "eager")
        ]
    return float((both[0] - both[1]).abs().max())


def page() -> str:
    """The whole page."""
    rows = [HEADER, ("---",) * len(HEADER), *map(row, FAMILIES)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    float32, bfloat16 = TOLERANCE["float32"], TOLERANCE["bfloat16"]
    return PAGE.format(
        command=COMMAND,
        table=table,
        largest=f"{float32[0]:g}",
        mean=f"{float32[1]:g}",
        half_largest=f"{bfloat16[0]:g}",
        half_mean=f"{bfloat16[1]:g}",
        soft_cap=f"{soft_cap_difference():.1g}",
    )


PAGE = """# Model families

```
extra doctor MODEL
```

loads a policy (a directory, or a name on the hub), measures it, and prints which path it takes and why. The same
measurement runs at every load: the model's own forward pass (`model(input_ids)`: one sequence, no cache, no padding)
against each path, on a few short random sequences. A path that differs from it is not used.

This page is generated: `{command}`. A test fails where it is out of date. Each row is a random model of three layers
whose weights have a standard deviation of 0.3, so that errors show; windows are of 8 tokens. The tests of `tests/zoo`
hold each row against a reference of their own: logprobs and entropies to 1e-4 nats at temperatures 0.7 and 1, the same
tokens at 1, 3 and 64 rows a batch, the gradient of one update to 1e-4 of its norm with and without gradient
checkpointing, and a policy that is saved, loaded and kept in bfloat16.

{table}

## What the columns mean
- **fast**: attention over grouped heads, a cache that is written in place, contexts that several rollouts share read
  once; scoring in one row without padding (`shared_prefix`), or in padded rows (`padded`), with the head in tiles. The
  numbers are those of the family's own forward pass: full attention, windows by layer, soft caps, scales and sinks.
- **plain**: the family's own code. `generate`: its cache, its masks, its head; `generate, rows of one length`: the same
  without padding, for families in which padding changes the numbers; `plain`: scoring by the whole forward pass, logits
  included. Correct and slower: a batch of `generate` runs until its longest response has ended.
- **refused**: no path gives the model's own numbers. The run stops with a ModelError before anything is sampled, and
  the error names what differed. No row above is refused.
- **largest difference**: of logprobs and entropies from the reference, in nats, the worse of both paths, rounded up.
  Allowed are {largest} at most and {mean} on average.

A family that is not listed is measured like any other. The list is not consulted when a model is loaded.

## Mixtures of experts
Each token is routed by itself, so padding and neighbours do not change the experts of a real token; a test compares
them. What rounding can do: where two experts score equally to 1e-6, a batch may choose another one than the token
alone. `update.lora.targets: all_linear` gives adapters to attention, routers and experts; in gpt-oss to attention only.

## Gemma 2 and the soft cap of its attention
`attn_logit_softcapping` is computed only by the family's `eager` attention. transformers loads `sdpa` by default, which
ignores it without a message: in the model of this table the two differ by up to {soft_cap} nats. The reference is what
transformers loads, so sampling, scoring and updates agree with it, and with each other. A model that was loaded with
`attn_implementation="eager"` keeps its soft cap on the fast paths too.

## bfloat16
Weights are float32 in updates. Where a policy is read in bfloat16, allowed are {half_largest} nats at most and
{half_mean} on average. Measured on a CPU, as largest / mean difference of the sampler
(in brackets the standard deviation of the weights):

| random model | healthy | without a mask |
| --- | --- | --- |
| rows of this table (standard deviation 0.3, width 32) | 0.01 to 0.10 / 0.003 to 0.020 | 0.1 to 5 / 0.03 to 0.7 |
| gpt-oss of this table, wide sinks | 0.34 / 0.054 | 4.1 / 1.6 |
| width 256 and 512, 12 to 32 layers (0.05, 0.06) | 0.02 to 0.08 / 0.010 to 0.022 | 1.3 to 3.8 / 0.18 to 0.53 |
| width 256, 24 layers (0.12) | 0.17 / 0.072 | 3.6 to 5.0 / 1.0 to 1.3 |

The last two rows are Llama, Qwen3, Qwen3-MoE and Gemma 2. Scoring differs by a fifth of this. A fault that is smaller
than the tolerance hides in rounding: measure a new family in float32 first, which runs the same code.

## What is not covered
- The sequences are short: up to 21 tokens, or up to 4 tokens more than the model's window where that is at most 508
  tokens and the model is small enough. A longer window is reported as not reached: a path that loses it passes.
- A fault below the tolerance is not seen, nor one that needs longer sequences: errors of rotary scaling beyond the
  trained context, for example.
- Dropout and router noise are off in updates as in sampling: what is trained is the policy that was sampled.
- peft has no adapters for Mamba's layers: `update.lora` is refused for them.
"""


if __name__ == "__main__":
    print(page(), end="")
