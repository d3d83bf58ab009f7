"""What a plan does not read off the configuration, as lines below its tables."""

from __future__ import annotations

import textwrap

from extra_rl.planning.devices import ROOM
from extra_rl.planning.plan import Figures


def assumptions(plan: Figures) -> list[str]:
    """Everything that is not read off the configuration."""
    a = plan["assumptions"]
    device = a["device"]
    said = [
        f"expected: responses of {a['mean_response']:,.0f} tokens (--mean-length) of at most {a['longest_response']:,},"
        f" prompts of {a['mean_prompt']:,.0f} (--mean-prompt) of at most {a['longest_prompt']:,}, "
        f"{a['hard_share']:.0%} of the groups hard (--hard-share).",
        "at most: every rollout at its limits, every group hard.",
        f"hours: {device['name']}, {device[a['precision']] / 1e12:,.0f} TFLOP/s in {a['precision']} and "
        f"{device['bandwidth'] / 1e12:.2f} TB/s, of which scoring and training reach {a['utilisation']:.0%} "
        "(--utilisation). Judging (CPU), loading, the start of an engine, and a sentence model's embeddings are not "
        "counted.",
        *(
            f"decoding with {backend}: at least {1000 * found['step_seconds']:g} ms a step (--step-ms), "
            f"{found['utilisation']:.0%} of the device (--decoding-utilisation)."
            for backend, found in a["decoders"].items()
        ),
        "decoding steps: the tokens of a call over the sequences decoded together, whose places are taken by others as "
        "they end, and from the mean to the limit for the last of them; at most whole batches at the limit.",
        *(
            [f"shards: {a['shards']} sample at the same time, each on devices of its own, if there are so many."]
            if a["shards"] > 1
            else []
        ),
        "operations: 2 a parameter and token forward, 6 in training (8 with checkpointing), and 4 x layers x heads x "
        "head size for every pair of query and key; every rollout counts as trained on.",
        "memory: at the longest lengths, counted on the CPU (extra_rl/planning/memory.py); add 1 GB for the device's "
        f"context. vLLM takes its share (sampling.engine), and is taken to sleep while others work. TOO MUCH: above "
        f"{ROOM:.0%} of the device.",
        "disk: zstd Parquet, 4.1 bytes a float, 3.5 a token's id and text; weights 4 and optimizer 8 bytes a "
        "parameter; retention as configured, and one policy more while a run goes on.",
    ]
    said += [f"note: {note}" for note in plan["notes"]]
    wrapped = [textwrap.fill(text, 118, initial_indent="  ", subsequent_indent="    ") for text in said]
    return ["", "Assumed, not measured:", *"\n".join(wrapped).splitlines()]
