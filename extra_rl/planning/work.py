"""Operations and hours of an iteration's stages, and of an evaluation, at given lengths."""

from __future__ import annotations

from extra_rl.planning import compute
from extra_rl.planning.compute import Speed
from extra_rl.planning.counts import Rollouts, Sections
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape


def operations_of(sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float) -> dict[str, float]:
    """Of one iteration, by kind. Every row counts as trained on: how many have a signal only the run can tell."""
    rows = rollouts.fresh + rollouts.regenerated
    whole = Lengths(prompt, rollouts.response_tokens / rows)
    tail = Lengths(0, min(sections["novelty"]["tail_tokens"], rollouts.response))
    update = sections["update"]
    trained = compute.training_pass(shape, rows, whole, checkpointing=update["gradient_checkpointing"])
    reference = compute.full_pass(shape, rows, whole) if update["kl_weight"] else 0.0
    prompts = rollouts.fresh / sections["generate"]["group_size"]
    embeds = sections["novelty"]["measure"] == "policy"
    return {
        "sample": compute.decoding(shape, rollouts.fresh, prompts, Lengths(prompt, rollouts.response))
        + compute.decoding(shape, rollouts.regenerated, *_continued(sections, rollouts, prompt)),
        "score": compute.full_pass(shape, rows, whole),
        "embed": compute.full_pass(shape, rows, tail) if embeds else 0.0,
        "update": update["epochs"] * (trained + reference),
    }


def hours_of(sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float, speed: Speed) -> dict[str, float]:
    """Of one iteration on one device, by kind. Judging runs on the CPU and is not counted."""
    work = operations_of(sections, shape, rollouts, prompt)
    rate = speed.device.peak(precision_of(sections)) * speed.utilisation
    seconds = {kind: value / rate for kind, value in work.items()}
    seconds["sample"] = _sampling_seconds(sections, shape, rollouts, prompt, speed)
    return {kind: value / 3600 for kind, value in seconds.items()}


def evaluation_of(
    sections: Sections, shape: Shape, samples: int, lengths: Lengths, speed: Speed
) -> tuple[float, float]:
    """Operations and hours of one evaluation; a problem's samples share its prompt."""
    contexts = samples / sections["evaluate"]["samples"]
    steps = compute.batches(samples, sections["evaluate"]["sampling"]["batch_rows"])
    steps *= sections["evaluate"]["max_response_tokens"]
    seconds = compute.decoding_seconds(
        shape, speed, precision_of(sections), sequences=samples, contexts=contexts, lengths=lengths, steps=steps
    )
    return compute.decoding(shape, samples, contexts, lengths), seconds / 3600


def precision_of(sections: Sections) -> str:
    return str(sections["generate"]["compute"]["precision"])


def _continued(sections: Sections, rollouts: Rollouts, prompt: float) -> tuple[float, Lengths]:
    """Distinct contexts of the regenerated rollouts, and their lengths: prompt with prefix, and what is sampled."""
    contexts = rollouts.regenerated / sections["choose_prefixes"]["continuations_per_prefix"]
    return contexts, Lengths(prompt + rollouts.prefix, rollouts.continuation)


def _sampling_seconds(sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float, speed: Speed) -> float:
    """A batch takes as many steps as its longest row: the limit is assumed to be reached by one row in each."""
    sampling = sections["generate"]["sampling"]
    prompts = rollouts.fresh / sections["generate"]["group_size"]
    parts = (
        (rollouts.fresh, prompts, Lengths(prompt, rollouts.response)),
        (rollouts.regenerated, *_continued(sections, rollouts, prompt)),
    )
    return sum(
        compute.decoding_seconds(
            shape,
            speed,
            precision_of(sections),
            sequences=sequences,
            contexts=contexts,
            lengths=lengths,
            steps=compute.batches(sequences, sampling["batch_rows"]) * sampling["max_response_tokens"],
        )
        for sequences, contexts, lengths in parts
    )
