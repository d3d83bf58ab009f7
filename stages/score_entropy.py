"""Scores every response token with the policy's own forward pass: logprob and full-vocabulary entropy.

READS   rollouts (generate or regenerate), policy
ADDS    score_entropy: policy_logprobs (the old logprobs of the update) and entropies, at the sampling temperature
SOURCE  docs/method.md 1 (old_logprob is the trainer's, not the sampler's) and 3 (entropy guides the choice of prefixes)
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.errors import NumericalError
from extra_rl.forward.layout import DESCRIPTION, Layout
from extra_rl.guards import check_mismatch
from extra_rl.sections import ComputeConfig, SamplingConfig
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """How many tokens are scored at once."""

    sampling: SamplingConfig = Field(description="shared section `sampling`: its temperature is applied here too")
    compute: ComputeConfig = Field(description="shared section `compute`")
    layout: Layout = Field(
        "auto", description=f"that of `update`, or every ratio starts with a rounding; {DESCRIPTION}"
    )
    tokens_per_batch: int = Field(
        8192, ge=1, description="tokens of one forward pass, padding counted, shared ones once"
    )


STAGE = Stage(
    name="score_entropy",
    version=2,
    reads={"rollouts": contracts.Rollouts, "policy": PolicyDirectory},
    adds={"score_entropy": contracts.TokenScores},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One row a rollout, in the order of the rollouts."""
    rollouts = inputs["rollouts"]
    if rollouts.is_empty():
        return {"score_entropy": contracts.TokenScores.create_empty()}
    import torch

    from extra_rl.forward.batches import fill, pieces_of, token_shares
    from extra_rl.forward.layout import budget_of, chosen, token_statistics
    from extra_rl.forward.sequences import TokenSequence
    from extra_rl.policy import load_policy_model

    device, precision = config.compute.apply(), config.compute.precision
    model = load_policy_model(inputs.policy(), device=device)
    sequences = [
        TokenSequence(prompt, response)
        for prompt, response in zip(rollouts["prompt_tokens"], rollouts["response_tokens"], strict=True)
    ]
    layout = chosen(config.layout, model)
    budget = budget_of(layout, model, config.tokens_per_batch)
    batches = fill(pieces_of(sequences, layout, budget), layout, budget)
    context.figures |= token_shares(batches)
    logprobs: list[list[float]] = [[] for _ in sequences]
    entropies: list[list[float]] = [[] for _ in sequences]
    progress = context.progress(len(sequences), f"{context.job.place} score_entropy: rollout")
    with torch.inference_mode():
        for rows, _, _ in batches:
            batch = [sequences[row] for row in rows]
            logprob_BT, entropy_BT, _ = token_statistics(model, batch, config.sampling.temperature, precision, layout)
            for row, logprob_T, entropy_T in zip(rows, logprob_BT.tolist(), entropy_BT.tolist(), strict=True):
                count = len(sequences[row].response)
                logprobs[row], entropies[row] = logprob_T[:count], entropy_T[:count]
            progress.update(len(rows))
    bad = [i for i, values in enumerate(logprobs) if not all(-float("inf") < v < float("inf") for v in values)]
    if bad:
        raise NumericalError(
            f"the policy {inputs.policy()} gives a logprob that is not finite, first for rollout "
            f"{rollouts['rollout_id'][bad[0]]}. The update before it diverged: lower update.learning_rate."
        )
    scores = contracts.TokenScores.cast(
        pl.DataFrame({"rollout_id": rollouts["rollout_id"], "policy_logprobs": logprobs, "entropies": entropies})
    )
    check_mismatch(rollouts, scores, precision, str(inputs.paths.get("rollouts", "the rollouts")), context)
    return {"score_entropy": scores}
