"""Which prefixes other rules would have chosen for the hard groups, and the outcome of those that the run chose too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_research.contracts import CounterfactualPrefixes, CounterfactualRules
from extra_research.finished import FinishedStage, next_iteration
from extra_research.variants import AS_IT_WAS, word
from extra_rl.algorithms.prefixes import BY_ENTROPY, BY_FIT, CutRule, RankRule
from extra_rl.tables import contracts, read_table

CUTS: tuple[CutRule, ...] = ("every_boundary", "before_peak_entropy", "before_peak_surprisal", "random")
RANKS: tuple[RankRule, ...] = ("low_mean_entropy", "high_mean_entropy", "low_mean_surprisal", "random")
COUNTS = (1, 2, 4)
Changes = dict[str, Any]


class Choices(NamedTuple):
    """long: one row a rule and candidate. rules: one row a rule, in the order given."""

    long: pl.DataFrame
    rules: pl.DataFrame


def rules_of(section: Mapping[str, Any], smoothings: Iterable[str] = ()) -> list[Changes]:
    """Return the run's own rule first, then cut x rank x smoothing x prefixes_per_problem; a fresh resample last.

    section: `choose_prefixes` of the run. smoothings: in addition to `none`; each loads the initial policy (or a
    sentence model) for every group. For a run that chose no prefixes, the rules serve all its hard groups. Under
    `scores_from: sampler` rules by entropy are left out. In a run with `action: cheapest` the others branch always.
    """
    by_sampler = section.get("scores_from") == "sampler"
    cuts = [cut for cut in CUTS if not by_sampler or cut != "before_peak_entropy"]
    ranks = [rank for rank in RANKS if not by_sampler or rank not in BY_ENTROPY]
    on: Changes = {} if section["groups"] else {"groups": "all_hard", "warmup_iterations": 0}
    if section.get("action") == "cheapest":  # which compares actions, not prefixes, and has no other rank
        on["action"] = "branch"
    counts = sorted({*COUNTS, section["prefixes_per_problem"]})
    found: list[Changes] = [
        {"cut": cut, "rank": rank, "smoothing": smoothing, "prefixes_per_problem": count}
        for cut, rank, smoothing, count in product(cuts, ranks, dict.fromkeys(["none", *smoothings]), counts)
    ]
    # The rank of a fresh resample has no effect, but one by estimates is refused without a cut.
    found.append({"cut": "none", **({"rank": "random"} if section["rank"] in BY_FIT else {})})
    return [{}, *({**change, **on} for change in found if on or any(section[k] != v for k, v in change.items()))]


def name_of(changes: Changes, section: Mapping[str, Any]) -> str:
    """Return what a rule changes, as KEY=VALUE of the configuration."""
    return " ".join(f"{k}={word(v)}" for k, v in changes.items() if section[k] != v) or AS_IT_WAS


def choices_under(rules: Iterable[Changes], chooser: FinishedStage, continued: pl.DataFrame) -> Choices:
    """Run the stage `choose_prefixes` again for each rule.

    continued: as returned by `continuations_of`. Groups that waited for their turn bring the candidates that the run
    cut when they were sampled. Raises InputError where the run's own rule does not reproduce the run's own table; this
    is not checked for a run that smoothed its scores, because that would load a model.
    """
    was = chooser.outputs["choose_prefixes"]
    section = chooser.config().model_dump(mode="json")
    if section["smoothing"] == "none":
        chooser.require_reproduced("choose_prefixes", chooser.rerun()["choose_prefixes"])
    taken = was.filter("chosen").select("group_id", "prefix_tokens", run_prefix_id="prefix_id")
    taken = taken.unique(["group_id", "prefix_tokens"], keep="first", maintain_order=True)
    long, summary = [], []
    for changes in rules:
        made = chooser.rerun(changes)["choose_prefixes"] if changes else was
        rows = candidates_with_outcome(made, taken, continued).with_columns(rule=pl.lit(name_of(changes, section)))
        long.append(rows)
        name = {"rule": name_of(changes, section), "changes": json.dumps(changes, sort_keys=True)}
        summary.append({**name, **compared(rows, taken)})
    schema = CounterfactualRules.create_empty().schema
    rules_table = pl.DataFrame(summary, schema=schema, strict=False)
    columns = CounterfactualPrefixes.column_names()
    return Choices(CounterfactualPrefixes.cast(pl.concat(long).select(columns)), rules_table)


def candidates_with_outcome(made: pl.DataFrame, taken: pl.DataFrame, continued: pl.DataFrame) -> pl.DataFrame:
    """Return a rule's candidates with place, whether the run took the same tokens for the group, and their outcome."""
    rows = made.drop("continuations").join(taken, on=["group_id", "prefix_tokens"], how="left", maintain_order="left")
    rows = rows.join(continued, left_on="run_prefix_id", right_on="prefix_id", how="left", maintain_order="left")
    length = pl.col("prefix_tokens").list.len()
    place = pl.when("chosen").then(pl.col("rank").rank("ordinal").over("group_id", "chosen") - 1)
    return rows.with_columns(
        prefix_length=length,
        length_share=length / pl.col("parent_length"),
        place=place,
        chosen_in_run=pl.col("run_prefix_id").is_not_null(),
    )


def compared(rows: pl.DataFrame, taken: pl.DataFrame) -> dict[str, Any]:
    """Return a rule's row. Overlaps are averaged over the groups for which the rule takes a prefix; Jaccard over those
    for which the rule or the run does."""
    chosen = rows.filter("chosen")
    here = chosen.group_by("group_id").agg(mine=pl.len(), both=pl.col("chosen_in_run").sum())
    groups = here.join(taken.group_by("group_id").len("theirs"), on="group_id", how="full", coalesce=True).fill_null(0)
    either = pl.col("mine") + pl.col("theirs") - pl.col("both")
    overlap = groups.select(
        share=(pl.col("both") / pl.col("mine")).filter(pl.col("mine") > 0).mean(),
        jaccard=(pl.col("both") / either).filter(either > 0).mean(),
    ).row(0)
    nothing = taken.is_empty()
    at_hand = chosen.filter(pl.col("continuations") > 0)
    return {
        "groups": rows["group_id"].n_unique(),
        "candidates": len(rows),
        "chosen": len(chosen),
        "share_in_run": None if nothing else overlap[0],
        "jaccard": None if nothing else overlap[1],
        "mean_score": chosen["score"].mean(),
        "mean_length_share": chosen["length_share"].mean(),
        "continued": len(at_hand),
        "rescued": int((at_hand["right"] > 0).sum()),
    }


def continued_in(folder: Path) -> pl.DataFrame:
    """Return the judged continuations that this iteration sampled in its second call, or the next one in its batch."""
    places = [(folder, "regenerate"), (next_iteration(folder), "generate")]
    found = [(at / f"{of}.parquet", at / f"verify_{of}.parquet") for at, of in places if at is not None]
    return continuations_of(
        (read_table(rollouts, contracts.Rollouts), read_table(verdicts, contracts.Verdicts))
        for rollouts, verdicts in found
        if rollouts.is_file() and verdicts.is_file()
    )


def continuations_of(tables: Iterable[tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """Return (prefix_id, continuations, right) from pairs of rollouts and their verdicts: judged continuations only."""
    empty = {"prefix_id": pl.String, "continuations": pl.Int64, "right": pl.Int64}
    found = [pl.DataFrame(schema={"prefix_id": pl.String, "verdict": pl.String})]
    for rollouts, verdicts in tables:
        judged = verdicts.filter(pl.col("reward").is_not_null()).select("rollout_id", pl.col("verdict").cast(pl.String))
        guided = rollouts.filter(pl.col("prefix_id").is_not_null()).select("rollout_id", "prefix_id")
        found.append(guided.join(judged, on="rollout_id", maintain_order="left").select("prefix_id", "verdict"))
    counts = (
        pl.concat(found)
        .group_by("prefix_id", maintain_order=True)
        .agg(continuations=pl.len(), right=(pl.col("verdict") == "right").sum())
    )
    return counts.cast({"continuations": pl.Int64, "right": pl.Int64}).match_to_schema(empty)


def rescue_by_place(long: pl.DataFrame, rule: str = AS_IT_WAS) -> pl.DataFrame:
    """Return (place, prefixes, rescued, continuations, right), by place in a rule's choice.

    Counts the prefixes that the rule takes and whose continuations were sampled: is its first choice its best?
    """
    rows = long.filter((pl.col("rule") == rule) & pl.col("chosen") & (pl.col("continuations") > 0))
    return (
        rows.group_by("place")
        .agg(
            prefixes=pl.len(),
            rescued=(pl.col("right") > 0).sum(),
            continuations=pl.col("continuations").sum(),
            right=pl.col("right").sum(),
        )
        .sort("place")
    )
