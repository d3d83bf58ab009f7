"""Bytes on disk of an iteration's tables and policy, and of a run with retention.

Source of the factors: zstd Parquet as `write_table` writes it. FLOAT, ID and TEXT were measured on 1,000
responses of 2,000 tokens (English mathematics, a byte-level BPE of 30,000 tokens, random logprobs: 4.07, 1.5 and 1.4
bytes; ID is rounded up for larger vocabularies); FIXED and ROW on the iterations of the offline run
(config/tiny.yaml), whose floats take 4.0 to 4.4 bytes. `tests/planning/test_real_run.py` compares the sum with a
real run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extra_rl.config.run import RunConfig
from extra_rl.models.retention import kept_optimizer_states, kept_weights
from extra_rl.planning.counts import Rollouts, Sections
from extra_rl.planning.memory import adapter_bytes, optimizer_bytes
from extra_rl.planning.shapes import Shape

FLOAT, ID, TEXT = 4.1, 2.0, 1.5
"""Bytes of a stored logprob, entropy or embedding component; of a token id; of a token's text."""

FIXED, ROW = 85_000, 60
"""Bytes of an iteration whose tables are empty (footers, records, logs); of a rollout without its tokens, in all
tables."""

WEIGHT = 4
"""Bytes a parameter: weights are stored in float32."""

TOKENIZER = 75
"""Bytes of tokenizer.json for each token of a byte-pair vocabulary with its merges (Qwen3's: 11.4 MB)."""

SENTENCE_DIMENSIONS = 384
"""Of MiniLM-L6-v2; other sentence models differ."""


@dataclass(frozen=True)
class Disk:
    """Bytes of one arm and seed, by kind.

    iteration: written by the last iteration, whose memories are largest. total: at the end, with retention. Optimizer
    states in `retention.optimizer_folder` are not included.
    """

    iteration: dict[str, float]
    total: dict[str, float]


def disk_of(sections: Sections, run: RunConfig, shape: Shape, rollouts: Rollouts, prompt: float, problems: int) -> Disk:
    """Return the bytes of an arm and seed.

    Args:
        sections: of the arm.
        run: iterations and retention.
        shape: of the model.
        rollouts: of one iteration.
        prompt: mean tokens.
        problems: to train on.
    """
    weights = float(WEIGHT * shape.parameters) + adapter_bytes(sections["update"], shape)
    moments = optimizer_bytes(sections["update"], shape) if run.retention.optimizer_folder is None else 0.0
    tables = [
        table_bytes(sections, shape, rollouts, prompt, problems, iteration)
        for iteration in range(run.first_iteration, run.iterations)
    ]
    size, retention = len(tables), run.retention
    kept = kept_weights(run.iterations, retention.weights_every, run.evaluate_every)
    states = kept_optimizer_states(run.iterations, retention.optimizer_states)
    tokenizer = float(tokenizer_bytes(shape, sections))
    return Disk(
        iteration={**tables[-1], "tokenizer": tokenizer, "weights": weights, "optimizer": moments},
        total={
            **{kind: sum(table[kind] for table in tables) for kind in tables[-1]},
            "tokenizer": size * tokenizer,
            "weights": sum(i >= run.first_iteration for i in kept) * weights,
            "optimizer": sum(i >= run.first_iteration for i in states) * moments,
        },
    )


def table_bytes(
    sections: Sections, shape: Shape, rollouts: Rollouts, prompt: float, problems: int, iteration: int
) -> dict[str, float]:
    """Return the bytes of one iteration's tables by kind: rollouts with scores and embeddings, and the memories.

    Args:
        sections, shape, rollouts, prompt, problems: as in `disk_of`.
        iteration: its number, with which the memories grow.
    """
    novelty, prefixes = sections["novelty"], sections["choose_prefixes"]
    rows, tokens = rollouts.rows, rollouts.response_tokens
    width = embedding_width(sections, shape)
    remembered = novelty["remember"] * min(problems, sections["select"]["prompts"] * (iteration + 1))
    tail = min(novelty["tail_tokens"], rollouts.response)
    age = min(prefixes["max_age"] + 1, iteration + 1 - prefixes["warmup_iterations"])
    return {
        "tables": tokens * (ID + TEXT + 3 * FLOAT) + rows * (ROW + ID * prompt + width * FLOAT) + FIXED,
        "novelty memory": remembered * (tail * ID + width * FLOAT),
        "prefixes": candidates(sections, rollouts, age) * (rollouts.prefix * (ID + FLOAT) + ID * prompt)
        + stored_trajectories(sections, rollouts, iteration) * (rollouts.response * (ID + FLOAT) + ID * prompt)
        + fresh_groups(prefixes, rollouts, iteration) * ROW,
    }


def stored_trajectories(sections: Sections, rollouts: Rollouts, iteration: int) -> int:
    """Return the rows of the bank of replays: at most one for every group so far, up to its capacity."""
    replay: Mapping[str, Any] = sections["choose_prefixes"]["replay"]
    return min(int(replay["capacity"]), rollouts.groups * (iteration + 1)) if replay["rows"] else 0


def fresh_groups(prefixes: Mapping[str, Any], rollouts: Rollouts, iteration: int) -> int:
    """Return the rows of the results of groups (`action: cheapest`): of recent iterations, and of groups that wait."""
    if prefixes["groups"] == 0 or prefixes.get("action") != "cheapest":
        return 0
    kept = max(int(prefixes.get("price_iterations", 8)), int(prefixes["max_age"]) + 1)
    return rollouts.groups * min(kept, iteration + 1)


def candidates(sections: Sections, rollouts: Rollouts, age: int) -> float:
    """Return the rows of choose_prefixes and of its pool: candidates of groups continued now, and of waiting groups.

    age: iterations for which a group can have waited.
    """
    prefixes = sections["choose_prefixes"]
    if prefixes["groups"] == 0 or age <= 0:
        return 0.0
    of_a_group = _candidates_of_a_group(prefixes, sections["generate"]["group_size"])
    return float(of_a_group * (rollouts.continued + age * (rollouts.groups - rollouts.continued)))


def _candidates_of_a_group(prefixes: Mapping[str, Any], group_size: int) -> int:
    if prefixes["cut"] == "none":
        return 1
    limit, empty = int(prefixes["max_cuts"]), int(prefixes.get("action") == "cheapest")
    return empty + (limit if prefixes["cut"] == "every_boundary" else min(limit, group_size))


def embedding_width(sections: Sections, shape: Shape) -> int:
    """Return the components of a stored embedding; 0 where the measure has none."""
    from extra_rl.novelty import MEASURES

    novelty = sections["novelty"]
    measure = MEASURES[novelty["measure"]]
    if not measure.NEEDS_EMBEDDINGS:
        return 0
    embedder = getattr(measure.Params.model_validate(novelty["params"]), "reference", novelty["measure"])
    return shape.hidden if embedder == "policy" else SENTENCE_DIMENSIONS


def tokenizer_bytes(shape: Shape, sections: Sections) -> int:
    """Return the bytes of the tokenizer next to every policy, which retention does not remove."""
    return 0 if sections["prepare"]["model"]["source"] == "new" else TOKENIZER * shape.vocabulary


def evaluation_bytes(samples: float, response: float, cached: bool) -> float:
    """Return the bytes of an evaluation's table, and of its samples in the cache."""
    table = samples * (ROW + response * (ID + TEXT))
    return table + (samples * response * ID if cached else 0.0)
