"""Facts of the rollouts of some groups: the row itself, its prefix, and every advantage that it was given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_rl.errors import InputError
from extra_rl.results import iteration_name
from extra_rl.tables import scan_iteration
from extra_rl.tables.files import read_provenance
from extra_rl.tables.signal import OWN, SEGMENTS, is_replay

FROM_SCAN = (
    *("rollout_id", "arm", "seed", "iteration", "group_id", "problem_id", "origin", "prefix_id", "parent_rollout_id"),
    *("prefix_length", "prompt_tokens", "response_tokens", "finish_reason", "response"),
    *("gold", "verdict", "extracted", "rule", "reward", "numbers", "entropies", "novelty", "nearest_rollout_id"),
)
"""Columns of `scan_iteration` that are shown; null where their stage has not run yet."""
OF_PREFIX = ("cut_reason", "score", "smoothed_score", "effective_neighbours", "rank", "when")
OF_ADVANTAGE = ("group_type", "reward", "normalised", "bonus", "advantage", "carried", "trained", "loss_start")
DECIMALS = 6
"""Decimals shown of a float32. Rounded parts need not add up to the rounded sum, so the shown parts are summed."""
TOLERANCE = 1e-5
"""Of the contract `Advantages.parts_add_up`, relative to 1 + |sum|."""


def rollouts_of_groups(folders: Mapping[int, Path], groups: Collection[str]) -> list[dict[str, Any]]:
    """Return every rollout of `groups` in these iteration folders, in the order of iterations and tables.

    Each has the columns `FROM_SCAN`, with the origin `replayed` for a replay of a stored trajectory, and:
        prefix: the row of `choose_prefixes` that it continues, with `candidates` (how many there were) and `found_in`
            (the iteration of that table: its own or the previous one); None for a fresh rollout.
        advantages: one dict for each advantage it was given: in its own iteration, and again where it completed a
            joined group (`carried`); empty before `advantage` has run.

    Raises InputError for a table that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    given: dict[str, list[dict[str, Any]]] = {}
    prefixes: dict[tuple[int, str], dict[str, Any]] = {}
    names = list(groups)
    try:
        for iteration, folder in sorted(folders.items()):
            found = _rows(folder, names)
            rows += found
            for row in advantages_of(folder, iteration, names):
                given.setdefault(row.pop("rollout_id"), []).append(row)
            named = {row["prefix_id"] for row in found if row["prefix_id"] is not None}
            for place, when in ((iteration - 1, "next_iteration"), (iteration, "same_iteration")):
                chosen = prefixes_of(folder.with_name(iteration_name(place)), named, when)
                prefixes |= {(iteration, name): row | {"found_in": place} for name, row in chosen.items()}
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
    origin = pl.when(is_replay()).then(pl.lit("replayed")).otherwise(pl.col("origin").cast(pl.String))
    found = scan.filter(pl.col("group_id").is_in(groups)).select(columns).collect()
    return found.with_columns(origin=origin).to_dicts()


def prefixes_of(folder: Path, names: Collection[str], when: str) -> dict[str, dict[str, Any]]:
    """Return prefix_id -> its row in an iteration's `choose_prefixes`, of those chosen to be continued `when`.

    {} where the table is missing.
    """
    file = folder / "choose_prefixes.parquet"
    if not names or not file.is_file():
        return {}
    rows = pl.scan_parquet(file, glob=False).with_columns(candidates=pl.len().over("group_id"))
    chosen = rows.filter(pl.col("prefix_id").is_in(list(names)), pl.col("chosen"), pl.col("when") == when)
    return {
        row.pop("prefix_id"): row for row in chosen.select("prefix_id", "candidates", *OF_PREFIX).collect().to_dicts()
    }


def advantages_of(folder: Path, iteration: int, groups: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of an iteration's `advantage` that belong to `groups`, with statistics of their advantage group.

    `members`, `mean` and `sd` are those of the rewards that a row was normalised with (`advantage.std_ddof`);
    `by_token`: whether its tokens have separate advantages.
    """
    file = folder / "advantage.parquet"
    if not file.is_file():
        return []
    settings = advantage_settings(file)
    counted = pl.col("reward").filter(pl.col("reward").is_not_null(), pl.col("trained") != "unrescued")
    own_groups = [name for group in groups for name in (group, group + OWN, group + SEGMENTS)]
    scan = pl.scan_parquet(file, glob=False)
    by_token = (
        pl.col("token_advantages").is_not_null() if "token_advantages" in scan.collect_schema() else pl.lit(False)
    )
    rows = scan.filter(pl.col("advantage_group").is_in(own_groups)).with_columns(
        members=counted.len().over("advantage_group"),
        mean=counted.mean().over("advantage_group"),
        sd=counted.std(ddof=settings.get("std_ddof", 1)).over("advantage_group"),
        at=pl.lit(iteration),
        by_token=by_token,
    )
    names = ("rollout_id", "advantage_group", "members", "mean", "sd", "at", "by_token", *OF_ADVANTAGE)
    return rows.select(names).collect().to_dicts()


def advantage_settings(file: Path) -> dict[str, Any]:
    """Return the section `advantage` of a table, from its footer; {} for a table that no stage wrote."""
    found: dict[str, Any] = read_provenance(file).get("job", {}).get("config", {})
    return found


def prompts(results: Path, problem_ids: Iterable[str]) -> dict[str, str]:
    """Return problem_id -> prompt as the model reads it, for the problems in `prepare`."""
    file = results / "prepare" / "train.parquet"
    if not file.is_file():
        return {}
    rows = pl.scan_parquet(file, glob=False).filter(pl.col("problem_id").is_in(list(problem_ids)))
    return dict(rows.select("problem_id", "prompt").collect().iter_rows())


class Sum(NamedTuple):
    """Parts of an advantage: normalised + bonus == total to the last shown decimal.

    final: the advantage; it differs from `total` only where a negative one was removed (`advantage.guided_advantage`).
    """

    normalised: float
    bonus: float
    total: float
    final: float


def adding_up(normalised: float, bonus: float, advantage: float) -> Sum:
    """Return the parts of an advantage, rounded so that they add up.

    `final` is the rounded sum if the stored advantage equals it within the contract's tolerance, else the stored one.
    """
    first, second = (round(part, DECIMALS) + 0.0 for part in (normalised, bonus))  # + 0.0 turns -0.0 into 0.0
    total = round(first + second, DECIMALS) + 0.0
    same = abs(advantage - total) <= TOLERANCE * (1 + abs(total))
    return Sum(first, second, total, total if same else round(advantage, DECIMALS) + 0.0)


def formula(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return how the reward was normalised, such as `(1 - 0.25) / (0.46291 + 1e-06)`; "" where it was not.

    With `normalise: pass_at_k` it is the group's counts: `pass@2, 3 of 8 correct`. Where the tokens have separate
    advantages it says so.

    row: of `advantages_of`. settings: the section `advantage`.
    """
    if row["reward"] is None or row["mean"] is None or row["trained"] in ("unrescued", "excluded"):
        return ""
    if row.get("by_token"):
        return "mean over its tokens"
    top = f"({row['reward']:.6g} - {row['mean']:.6g})"
    normalise = settings.get("normalise") or ("std" if settings.get("divide_by_std", True) else "mean_only")
    if normalise == "mean_only":
        return top
    if normalise == "mean":
        return f"{top} / {row['mean']:.6g}" if row["mean"] else top
    if normalise == "pass_at_k":
        return f"pass@{settings['k']}, {round(row['mean'] * row['members'])} of {row['members']} correct"
    return f"{top} / ({row['sd'] or 0.0:.6g} + {settings.get('eps', 1e-6):g})"


def weights_of(file: Path) -> dict[str, float]:
    """Return `verify.weights` of a table of verdicts, from its footer; {} without weights."""
    found: dict[str, float] = read_provenance(file).get("job", {}).get("config", {}).get("weights", {})
    return found


def weighted_sum(numbers: Mapping[str, float], weights: Mapping[str, float]) -> str:
    """Return how the numbers of a judge make the reward, such as `1 * 1 (correct) - 0.01 * 18 (length)`.

    numbers: of the column `numbers`; one that is missing counts as 0. weights: "" without any.
    """
    terms = [(weight, f"{abs(weight):g} * {numbers.get(name, 0.0):g} ({name})") for name, weight in weights.items()]
    text = "".join(f" {'-' if weight < 0 else '+'} {term}" for weight, term in terms)
    return text.removeprefix(" + ").removeprefix(" ")
