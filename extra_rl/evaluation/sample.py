"""The samples of an evaluation: cached ones, and missing ones drawn from the policy in parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ModelError
from extra_rl.evaluation.policies import EvaluatedPolicy
from extra_rl.evaluation.store import Cached, Key, SampleStore
from extra_rl.models.watch import WeightsWatch
from extra_rl.run.progress import Console, Progress
from extra_rl.sampling.base import Request, decoding_order, longest_of, refuse_not_finite
from extra_rl.sampling.text import Decode


@dataclass(frozen=True)
class Wanted:
    """One sample that an evaluation needs: its cache key, and the request that draws it."""

    key: Key
    problem_id: str
    request: Request


def samples_of(
    wanted: Sequence[Wanted],
    policy: EvaluatedPolicy,
    sampling: SamplingConfig,
    compute: ComputeConfig,
    *,
    store: SampleStore | None,
    part_samples: int,
    console: Console,
    label: str,
) -> tuple[list[Cached], Decode, float]:
    """Return every wanted sample in order, the decoder of token ids, and the seconds that the sampler took to start.

    Missing samples are drawn in parts of about `part_samples`: whole batches in the sampler's order, stored one part at
    a time. An interrupted evaluation continues with the same batches and ends with the same bytes. The model is not
    loaded if nothing is missing.

    Args:
        wanted: all samples of the evaluation.
        policy: that draws them.
        sampling, compute: sections of the configuration.
        store: the cache; None for no cache.
        part_samples: samples between two writes to the cache.
        console: for progress.
        label: begins the printed lines.

    Raises ModelError for prompts that do not fit into the model's context.
    """
    from extra_rl.sampling.open import open_decoder, open_sampler

    require_context(wanted, policy.directory)
    found = store.read() if store else {}
    missing = [one for one in wanted if one.key not in found]
    if len(missing) < len(wanted):
        console.say(f"{label}: {len(wanted) - len(missing):,} of {len(wanted):,} samples are cached")
    if not missing:
        return [found[one.key] for one in wanted], open_decoder(policy.directory, sampling.stop), 0.0
    advance = Progress(console, len(missing), f"{label}: sample").update
    ordered = [missing[i] for i in decoding_order([one.request for one in missing])]
    size = whole_batches(part_samples, sampling.batch_rows) if store else len(ordered)
    longest = longest_of([one.request for one in missing])
    started = time.monotonic()
    weights = WeightsWatch([policy.directory])
    with open_sampler(policy.path, sampling, compute, longest) as (sampler, decode):
        opening = time.monotonic() - started
        for start in range(0, len(ordered), size):
            part = ordered[start : start + size]
            drawn = sampler.sample([one.request for one in part], sampling, advance)
            refuse_not_finite(drawn, policy.path)
            new = {
                one.key: Cached(np.asarray(sample.tokens, dtype=np.int32), sample.finish_reason)
                for one, sample in zip(part, drawn, strict=True)
            }
            if store:
                weights.require_unchanged()  # else samples of other weights are kept under this policy's digest
                store.add(new)
            found |= new
    return [found[one.key] for one in wanted], decode, opening


def whole_batches(part_samples: int, batch_rows: int) -> int:
    """Return `part_samples` rounded up to whole batches, so that parts do not change the batches."""
    return -(-part_samples // batch_rows) * batch_rows


def require_context(wanted: Sequence[Wanted], directory: Path) -> None:
    """Raise ModelError where a prompt and its response do not fit into the model's context."""
    context_size = context_tokens(directory)
    if context_size is None or not wanted:
        return
    longest = max(wanted, key=lambda one: len(one.request.context))
    prompt, response = len(longest.request.context), longest.request.max_tokens
    if prompt + response > context_size:
        problems = {o.problem_id for o in wanted if len(o.request.context) + response > context_size}
        largest = context_size - prompt
        raise ModelError(
            f"{directory}: the context has {context_size:,} tokens (max_position_embeddings), but the prompt of "
            f"{longest.problem_id} has {prompt:,} and its response up to {response:,}, so {len(problems)} problem(s) "
            "do not fit. "
            + (
                f"Lower max_response_tokens to at most {largest:,}."
                if largest > 0
                else "Remove them (task.benchmarks, limit), or use a model with a larger context."
            )
        )


def context_tokens(directory: Path) -> int | None:
    """Return the model's maximum number of tokens, None where its config.json does not contain it."""
    from transformers import AutoConfig

    from extra_rl.models.family import context

    if not (directory / "config.json").is_file():
        return None
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except Exception:  # loading the model reports an invalid configuration
        return None
    return context(config)
