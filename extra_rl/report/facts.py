"""All that the tables say of some groups' rollouts: the row itself, its prefix, and every advantage it was given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.errors import InputError
from extra_rl.results import iteration_name
from extra_rl.tables import scan_iteration
from extra_rl.tables.files import read_provenance

FROM_SCAN = (
    *("rollout_id", "arm", "seed", "iteration", "group_id", "problem_id", "origin", "prefix_id", "parent_rollout_id"),
    *("prefix_length", "prompt_tokens", "response_tokens", "finish_reason", "response"),
    *("gold", "verdict", "extracted", "rule", "reward", "entropies", "novelty", "nearest_rollout_id"),
)
"""Columns of `scan_iteration` that are shown. Those of a stage that has not run yet are null."""
OF_PREFIX = ("cut_reason", "score", "smoothed_score", "effective_neighbours", "rank", "when")
OF_ADVANTAGE = ("group_type", "reward", "normalised", "bonus", "advantage", "carried", "trained", "loss_start")


def rollouts_of_groups(folders: Mapping[int, Path], groups: Collection[str]) -> list[dict[str, Any]]:
    """Every rollout of `groups` in these iteration folders: columns `FROM_SCAN`, and

    prefix: the row of `choose_prefixes` that it continues, with `candidates`, how many there were to choose from, and
        `found_in`, the iteration of that table: its own or the one before; None for a fresh rollout.
    advantages: one dict for every time that it was given one: in its own iteration, and again where it completed a
        joined group (`carried`); empty as long as `advantage` has not run.

    In the order of iterations and tables. Raises InputError for a table that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    given: dict[str, list[dict[str, Any]]] = {}
    prefixes: dict[tuple[int, str], dict[str, Any]] = {}
    wanted = list(groups)
    try:
        for iteration, folder in sorted(folders.items()):
            found = _rows(folder, wanted)
            rows += found
            for row in advantages_of(folder, iteration, wanted):
                given.setdefault(row.pop("rollout_id"), []).append(row)
            named = {row["prefix_id"] for row in found if row["prefix_id"] is not None}
            for place, when in ((iteration - 1, "next_iteration"), (iteration, "same_iteration")):
                found_there = prefixes_of(folder.with_name(iteration_name(place)), named, when)
                prefixes |= {(iteration, name): row | {"found_in": place} for name, row in found_there.items()}
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{folder}: a table there cannot be read ({error}). Delete it and run again.") from error
    for row in rows:
        row["prefix"] = prefixes.get((row["iteration"], row["prefix_id"]))
        row["advantages"] = given.get(row["rollout_id"], [])
    return rows


def _rows(folder: Path, groups: list[str]) -> list[dict[str, Any]]:
    scan = scan_iteration(folder)
    there = set(scan.collect_schema().names())
    columns = [pl.col(name) if name in there else pl.lit(None).alias(name) for name in FROM_SCAN]
    return scan.filter(pl.col("group_id").is_in(groups)).select(columns).collect().to_dicts()


def prefixes_of(folder: Path, names: Collection[str], when: str) -> dict[str, dict[str, Any]]:
    """prefix_id -> what `choose_prefixes` of an iteration says of those that it chose to be sampled on from `when`;
    {} where the table is missing."""
    file = folder / "choose_prefixes.parquet"
    if not names or not file.is_file():
        return {}
    rows = pl.scan_parquet(file, glob=False).with_columns(candidates=pl.len().over("group_id"))
    chosen = rows.filter(pl.col("prefix_id").is_in(list(names)), pl.col("chosen"), pl.col("when") == when)
    return {
        row.pop("prefix_id"): row for row in chosen.select("prefix_id", "candidates", *OF_PREFIX).collect().to_dicts()
    }


def advantages_of(folder: Path, iteration: int, groups: Collection[str]) -> list[dict[str, Any]]:
    """The rows of an iteration's `advantage` that belong to `groups`, each with the figures of the rows that it was
    normalised with: `members`, `mean` and `sd` of their rewards (degrees of freedom as the section says)."""
    file = folder / "advantage.parquet"
    if not file.is_file():
        return []
    settings = advantage_settings(file)
    counted = pl.col("reward").filter(pl.col("reward").is_not_null(), pl.col("trained") != "unrescued")
    own_groups = [name for group in groups for name in (group, f"{group}/own")]
    rows = (
        pl.scan_parquet(file, glob=False)
        .filter(pl.col("advantage_group").is_in(own_groups))
        .with_columns(
            members=counted.len().over("advantage_group"),
            mean=counted.mean().over("advantage_group"),
            sd=counted.std(ddof=settings.get("std_ddof", 1)).over("advantage_group"),
            at=pl.lit(iteration),
        )
    )
    names = ("rollout_id", "advantage_group", "members", "mean", "sd", "at", *OF_ADVANTAGE)
    return rows.select(names).collect().to_dicts()


def advantage_settings(file: Path) -> dict[str, Any]:
    """The section `advantage` that made a table, from its footer; {} for a table that no stage wrote."""
    found: dict[str, Any] = read_provenance(file).get("job", {}).get("config", {})
    return found


def prompts(results: Path, problem_ids: Iterable[str]) -> dict[str, str]:
    """problem_id -> prompt as the model reads it, for those that `prepare` has."""
    file = results / "prepare" / "train.parquet"
    if not file.is_file():
        return {}
    rows = pl.scan_parquet(file, glob=False).filter(pl.col("problem_id").is_in(list(problem_ids)))
    return dict(rows.select("problem_id", "prompt").collect().iter_rows())
