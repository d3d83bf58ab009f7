"""Constructed iterations for tests of update: three rollouts of a tiny policy, one step by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.run.context import RunContext
from extra_rl.tables import contracts
from stages import score_entropy, update
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, run_stage, tables_of

INITIAL = POLICY / "manifest.json"
PROMPT = (1, 6, 7, 107)  # `<bos> 3 4 :`
RIGHT = Row("right", prompt_tokens=PROMPT, response_tokens=(6, 103, 7, 105, 10, 2))
WRONG = Row("wrong", prompt_tokens=PROMPT, response_tokens=(7, 103, 6, 105, 11, 8, 9, 2))
EQUAL = Row("equal", group_id="extra/s0/i0/1", prompt_tokens=PROMPT, response_tokens=(5, 2))
CONTINUED = WRONG.continued("continued", 3)
ONE_STEP: dict[str, Any] = {"minibatches": 1}


def advantages(values: Mapping[str, float], masked: Mapping[str, int] | None = None) -> pl.DataFrame:
    """An advantage table. masked: rollout -> tokens at its start without loss."""
    return frame(
        contracts.Advantages,
        [
            {
                "rollout_id": name,
                "advantage_group": "extra/s0/i0/0",
                "group_type": "mixed",
                "reward": 0.0,
                "normalised": value,
                "bonus": 0.0,
                "advantage": value,
                "carried": False,
                "trained": "trained" if value else "no_signal",
                "loss_start": (masked or {}).get(name, 0),
            }
            for name, value in values.items()
        ],
    )


def tables(rows: list[Row], values: Mapping[str, float], masked: Mapping[str, int] | None = None, **config: Any) -> Any:
    """The tables of an iteration in which sampler and trainer agree exactly."""
    found = tables_of(rows)
    scores = run_stage(score_entropy, {"rollouts": found["generate"]}, config, paths={"policy": INITIAL})
    sampled = found["generate"].drop("sampler_logprobs").join(scores["score_entropy"], on="rollout_id")
    found["generate"] = sampled.rename({"policy_logprobs": "sampler_logprobs"}).select(found["generate"].columns)
    return found | {"score_entropy_generate": scores["score_entropy"], "advantage": advantages(values, masked)}


def updated(
    found: dict[str, pl.DataFrame],
    folder: Path,
    policy: Path = INITIAL,
    run: RunContext | None = None,
    iteration: int = 0,
    **config: Any,
) -> tuple[pl.DataFrame, Path]:
    """The metrics and the next policy's manifest."""
    manifest = folder / "policy" / "manifest.json"
    made = run_stage(
        update,
        found,
        {**ONE_STEP, **config},
        paths={"policy": policy, "initial": INITIAL},
        outputs={"update": folder / "update.parquet", "next_policy": manifest},
        run=run,
        iteration=iteration,
    )
    return made["update"], manifest


def one_step(found: dict[str, pl.DataFrame], folder: Path, **config: Any) -> dict[str, Any]:
    (row,) = updated(found, folder, **config)[0].to_dicts()
    return row
