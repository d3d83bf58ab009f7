"""A run of two iterations made by hand: a failed group that is rescued from a prefix, a mixed one, an unsolved one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.models.tokenizers import word_level
from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from stages import advantage
from tests.stages.rows import PER_ROLLOUT, Row, frame, group, problem, run_stage, tables_of

WORDS = ("one", "two", "three", "=", ";")
"""Ids 3, 4, 5, 6, 7; 2 ends a response."""
HARD, MIXED, UNSOLVED = (f"extra/s0/i0/{n}" for n in range(3))
CHILD = "extra/s0/i1/i0.0/0"
SECTION = {"weight": 0.1, "group": "joined", "keep_unrescued": False}


def make_run(root: Path, words: tuple[str, ...] = WORDS, section: Mapping[str, Any] = SECTION, **changes: Any) -> Path:
    """results/made of the run below `root`. section: of `advantage`. changes: fields of
    the hard group's first rollout.

    Iteration 0: the hard group fails twice. Iteration 1: its first rollout was cut behind 2 of its 4 tokens; one
    continuation is right (novelty 0.3), the other wrong. The four are normalised together, so
    mean 0.25, sd 0.5; right: 0.75 / (0.5 + 1e-6) = 1.499997, + 0.1 x 0.3 = 1.529997; wrong: -0.499999.
    """
    results = root / "results" / "made"
    word_level(words).save_pretrained(results / "warm_start" / "policy")
    long = {"response_tokens": (3, 6, 4, 2), "entropies": (0.125, 0.5, 2.25, 0.75), "response": "one = two"}
    parent, failed = group("wt", group_id=HARD, extracted="two", **long)
    parent = replace(parent, nearest=failed.rollout_id, **changes)
    right, wrong = group("rw", group_id=MIXED, problem_id="p1", gold="9")
    mixed = [replace(right, novelty=0.2, nearest=wrong.rollout_id), wrong]
    fresh = [parent, failed, *mixed, *group("ww", group_id=UNSOLVED, problem_id="p2")]
    tail = {"response_tokens": (3, 6, 5, 2), "entropies": (0.125, 0.5, 2.25, 0.75), "response": "one = three"}
    children = [
        parent.continued(CHILD, 2, verdict="right", extracted="7", novelty=0.3, nearest=HARD + "/1", **tail),
        parent.continued(CHILD[:-1] + "1", 2, verdict="wrong", extracted="8", nearest=CHILD, **tail),
    ]
    train = [problem("p0"), problem("p1", answer="9"), problem("p2", benchmark="L2")]
    write_table(frame(contracts.Problems, train), results / "prepare" / "train.parquet", contracts.Problems, {})
    run = results / "extra" / "s0"
    first, second = tables_of(fresh), tables_of(children)
    write_iteration(run / "iteration_0000", first, 0, section)
    previous = {f"previous_{name}": first[name] for name in ("generate", "verify_generate")}
    write_iteration(run / "iteration_0001", {**second, **previous}, 1, section)
    prefix = frame(contracts.Prefixes, [chosen_prefix(), chosen_prefix(rank=1, chosen=False)])
    write_table(prefix, run / "iteration_0000" / "choose_prefixes.parquet", contracts.Prefixes, {})
    return results


def add_replays(results: Path, verdicts: str, name: str = "r0.0", *, parent: str | None = CHILD) -> list[str]:
    """Add iteration 2 of `make_run`: replays of the rescue, one letter each, from its first 2 tokens; return their ids.

    name: of their group. parent: rollout that was stored; None: a worked solution.
    """
    stored = Row(CHILD, response_tokens=(3, 6, 5, 2), entropies=(0.125, 0.5, 2.25, 0.75), response="one = three")
    letters = {"r": "right", "w": "wrong"}
    rows = [
        stored.continued(
            f"extra/s0/i2/i1.{name}/{n}", 2, verdict=letters[letter], group_id=f"extra/s0/i1/{name}", parent=parent
        )
        for n, letter in enumerate(verdicts)
    ]
    write_iteration(results / "extra" / "s0" / "iteration_0002", tables_of(rows), 2, SECTION)
    return [row.rollout_id for row in rows]


def write_iteration(
    folder: Path, tables: Mapping[str, pl.DataFrame], iteration: int, section: Mapping[str, Any]
) -> None:
    """The tables of an iteration, with `advantage` made from them by the stage and named so in the footer."""
    made = run_stage(advantage, tables, section, iteration=iteration)
    provenance = {"job": {"config": advantage.Config(**section).model_dump(mode="json")}}
    for name, contract in PER_ROLLOUT.items():
        table = made["advantage"] if name == "advantage" else tables[name]
        write_table(table, folder / f"{name}.parquet", contract, provenance)


def chosen_prefix(rank: int = 0, *, chosen: bool = True) -> dict[str, Any]:
    """The row of the prefix that both continuations share, or of one that was not chosen."""
    return {
        "prefix_id": f"{HARD}/{rank}@2",
        "group_id": HARD,
        "problem_id": "p0",
        "parent_rollout_id": f"{HARD}/{rank}",
        "iteration": 0,
        "prompt_tokens": [1, 5],
        "prefix_tokens": [3, 6],
        "prefix_logprobs": [-1.0, -1.0],
        "parent_length": 4,
        "cut_reason": "before_peak",
        "score": 0.3125,
        "smoothed_score": None,
        "effective_neighbours": None,
        "rank": rank,
        "chosen": chosen,
        "continuations": 2 if chosen else 0,
        "when": "next_iteration",
    }
