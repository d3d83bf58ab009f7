"""Operations and hours of an iteration's stages, and of an evaluation, at given lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass

from extra_rl.evaluation.sample import whole_batches
from extra_rl.planning import compute
from extra_rl.planning.compute import Engine, Speed
from extra_rl.planning.counts import Rollouts, Sections, longest_response
from extra_rl.planning.engines import engine_bytes, engine_rows
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape
from extra_rl.planning.steps import Call, joined


@dataclass(frozen=True)
class Hours:
    """device: of all devices together; clock: from beginning to end."""

    device: float
    clock: float


def operations_of(sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float) -> dict[str, float]:
    """Of one iteration, by kind. Every row counts as trained on: how many have a signal only the run can tell."""
    rows = rollouts.fresh + rollouts.regenerated
    whole = Lengths(prompt, rollouts.response_tokens / rows)
    tail = Lengths(0, min(sections["novelty"]["tail_tokens"], rollouts.response))
    update = sections["update"]
    trained = compute.training_pass(shape, rows, whole, checkpointing=update["gradient_checkpointing"])
    reference = compute.full_pass(shape, rows, whole) if update["kl_weight"] else 0.0
    embeds = sections["novelty"]["measure"] == "policy"
    return {
        "sample": sum(compute.decoding(shape, call) for call in _parts(sections, rollouts, prompt)),
        "score": compute.full_pass(shape, rows, whole),
        "embed": compute.full_pass(shape, rows, tail) if embeds else 0.0,
        "update": update["epochs"] * (trained + reference),
    }


def hours_of(
    sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float, speed: Speed, shards: int
) -> dict[str, Hours]:
    """Of one iteration, by kind. `shards` sample at the same time, each a part of the rollouts with an engine of its
    own. Judging runs on the CPU and is not counted."""
    work = operations_of(sections, shape, rollouts, prompt)
    rate = speed.device.peak(precision_of(sections)) * speed.utilisation
    hours = {kind: Hours(value / rate / 3600, value / rate / 3600) for kind, value in work.items()}
    calls = [call.share_of(shards) for call in calls_of(sections, rollouts, prompt)]
    clock = sum(_seconds(sections, "generate", shape, call, speed) for call in calls) / 3600
    hours["sample"] = Hours(device=clock * shards * devices_of(sections, "generate"), clock=clock)
    return hours


def rows_of(sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float, device: float, shards: int) -> float:
    """Sequences that one sampler decodes together in `generate`."""
    call = calls_of(sections, rollouts, prompt)[0].share_of(shards)
    return min(math.ceil(call.sequences), engine_of(sections, "generate", shape, call, device).rows)


def calls_of(sections: Sections, rollouts: Rollouts, prompt: float) -> list[Call]:
    """Calls of the sampler in one iteration: of generate and of regenerate, or of both in one where continuations are
    sampled with the next iteration's batch."""
    fresh, continued = _parts(sections, rollouts, prompt)
    together = sections["choose_prefixes"]["when"] == "next_iteration"
    return [joined(fresh, continued)] if together else [fresh, continued]


def evaluation_of(
    sections: Sections, shape: Shape, samples: int, lengths: Lengths, speed: Speed
) -> tuple[float, Hours]:
    """Operations and hours of one evaluation; a problem's samples share its prompt. With a cache it is sampled in
    parts, one after the other, each of which ends with its longest row."""
    evaluate = sections["evaluate"]
    part = whole_batches(evaluate["part_samples"], evaluate["sampling"]["batch_rows"])
    parts, rest = divmod(samples, part) if evaluate["cache"] else (0, samples)

    def call(sequences: int) -> Call:
        longest = float(evaluate["max_response_tokens"])
        return Call(sequences, sequences / evaluate["samples"], lengths.prompt, lengths.response, longest)

    def seconds(sequences: int) -> float:
        return _seconds(sections, "evaluate", shape, call(sequences), speed)

    clock = (parts * seconds(part) + seconds(rest)) / 3600
    return compute.decoding(shape, call(samples)), Hours(clock * devices_of(sections, "evaluate"), clock)


def precision_of(sections: Sections) -> str:
    return str(sections["generate"]["compute"]["precision"])


def devices_of(sections: Sections, stage: str) -> int:
    """Devices that one sampler of a stage spans."""
    sampling = sections[stage]["sampling"]
    return int(sampling["engine"]["tensor_parallel"]) if sampling["backend"] == "vllm" else 1


def engine_of(sections: Sections, stage: str, shape: Shape, call: Call, memory: float) -> Engine:
    """What decodes in a stage, on devices of so many bytes.

    vLLM decodes fewer rows than `batch_rows` where keys and values of so many have no room. While rows of all ages are
    at work, each holds what it has sampled so far.
    """
    sampling, precision, devices = sections[stage]["sampling"], precision_of(sections), devices_of(sections, stage)
    rows = sampling["batch_rows"]
    if sampling["backend"] == "vllm":
        share = sampling["engine"]["gpu_memory_utilization"]
        parts = engine_bytes(shape, precision=precision, share=share, device=memory, devices=devices)
        tokens = call.prompt + (call.behind if call.mean < call.longest else call.longest)
        rows = max(1, min(rows, engine_rows(shape, parts, precision=precision, devices=devices, tokens=tokens)))
    return Engine(sampling["backend"], precision, rows, devices)


def _seconds(sections: Sections, stage: str, shape: Shape, call: Call, speed: Speed) -> float:
    decoder = engine_of(sections, stage, shape, call, speed.device.memory)
    return compute.decoding_seconds(shape, speed, decoder, call)


def _parts(sections: Sections, rollouts: Rollouts, prompt: float) -> tuple[Call, Call]:
    """Fresh rollouts, and continuations after prompt and prefix; some of either run to the response limit."""
    limit, each = float(longest_response(sections)), sections["choose_prefixes"]["continuations_per_prefix"]
    prompts = rollouts.fresh / sections["generate"]["group_size"]
    left, again = max(rollouts.continuation, limit - rollouts.prefix), rollouts.regenerated
    return (
        Call(rollouts.fresh, prompts, prompt, rollouts.response, limit),
        Call(again, again / each, prompt + rollouts.prefix, rollouts.continuation, left),
    )
