"""Peak memory of the stages that hold a model, for the longest sequences that a configuration allows."""

from __future__ import annotations

import math

from extra_rl.planning import counts, memory
from extra_rl.planning.counts import Sections
from extra_rl.planning.engines import ASLEEP, engine_bytes
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape
from extra_rl.planning.trained import optimizer_bytes, trained_parameters
from extra_rl.planning.work import devices_of, precision_of


def peaks_of(sections: Sections, shape: Shape, device: float) -> dict[str, dict[str, float]]:
    """stage -> part -> bytes, on a device of so many. `regenerate` stands for continuations, in whichever batch they
    are sampled. An engine of vLLM takes its share while it samples and sleeps while others work."""
    longest = Lengths(counts.longest_prompt(sections), counts.longest_response(sections))
    precision, update = precision_of(sections), sections["update"]
    found = {
        "generate": _engine(sections, "generate", shape, device) or _fresh(sections, shape, longest),
        "score_entropy": memory.scorer(
            shape,
            precision=precision,
            tokens_per_batch=sections["score_entropy"]["tokens_per_batch"],
            longest=longest,
        ),
        "update": memory.update(
            shape,
            precision=precision,
            tokens_per_batch=update["tokens_per_batch"],
            longest=longest,
            checkpointing=update["gradient_checkpointing"],
            reference=update["kl_weight"] > 0 and update["lora"] is None,  # else the frozen weights are the reference
            entropy_bonus=update["entropy_weight"] > 0,
            trained=trained_parameters(update, shape),
            state=optimizer_bytes(update, shape),
        ),
        "evaluate": _engine(sections, "evaluate", shape, device) or _evaluation(sections, shape, longest),
    }
    if sections["choose_prefixes"]["groups"] != 0:
        engine = _engine(sections, "generate", shape, device)
        found["regenerate"] = engine or _continuations(sections, shape, longest)
    if sections["generate"]["sampling"]["backend"] == "vllm":
        for stage in ("score_entropy", "update"):
            found[stage]["engine, asleep"] = ASLEEP
    return found


def _engine(sections: Sections, stage: str, shape: Shape, device: float) -> dict[str, float] | None:
    """vLLM's, None for another backend."""
    sampling = sections[stage]["sampling"]
    if sampling["backend"] != "vllm":
        return None
    share, devices = sampling["engine"]["gpu_memory_utilization"], devices_of(sections, stage)
    return engine_bytes(shape, precision=precision_of(sections), share=share, device=device, devices=devices)


def _fresh(sections: Sections, shape: Shape, longest: Lengths) -> dict[str, float]:
    sampling, group = sections["generate"]["sampling"], sections["generate"]["group_size"]
    rows = min(sampling["batch_rows"], sections["select"]["prompts"] * group)
    return memory.sampler(
        shape,
        precision=precision_of(sections),
        rows=rows,
        contexts=math.ceil(rows / group),
        context=longest.prompt,
        capacity=longest.total,
        cut=False,
    )


def _continuations(sections: Sections, shape: Shape, longest: Lengths) -> dict[str, float]:
    """A prefix counts against the response, so that no row is longer than a prompt and a whole response."""
    each = sections["choose_prefixes"]["continuations_per_prefix"]
    most = counts.at_most(sections)
    rows = min(sections["generate"]["sampling"]["batch_rows"], math.ceil(most.regenerated))
    return memory.sampler(
        shape,
        precision=precision_of(sections),
        rows=rows,
        contexts=math.ceil(rows / each),
        context=longest.prompt + most.prefix,
        capacity=longest.total,
        cut=False,
    )


def _evaluation(sections: Sections, shape: Shape, longest: Lengths) -> dict[str, float]:
    evaluate = sections["evaluate"]
    rows = evaluate["sampling"]["batch_rows"]
    return memory.sampler(
        shape,
        precision=precision_of(sections),
        rows=rows,
        contexts=math.ceil(rows / evaluate["samples"]),
        context=longest.prompt,
        capacity=longest.prompt + evaluate["max_response_tokens"],
        cut=evaluate["top_p"] < 1 or evaluate["top_k"] > 0,
    )
