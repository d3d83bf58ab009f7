"""Read what the report shows: only the needed columns, one row per iteration or evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from extra_rl.report.sources import Sources
from extra_rl.results import IterationFolder

COUNTS = ("groups", "all_incorrect", "mixed", "all_correct", "regenerated_groups", "rescued_groups")
FIGURES = (
    *("pass_rate", "mean_reward", "mean_numbers", "mean_entropy", "mean_length", "bonus_share"),
    *("truncated", "loss", "gradient_norm", "mismatch_mean", "useful_groups"),
)
OF_STEPS = ("approx_kl", "clipped_low", "clipped_high", "kl_to_reference")
KEY = {"folder": pl.String, "arm": pl.String, "regime": pl.String, "seed": pl.Int64, "iteration": pl.Int64}


def iterations(sources: Sources) -> pl.DataFrame:
    """Return one row per iteration that sampled (`contracts.IterationSummary`), with its folder, arm and regime.

    Iterations after the token budget sample nothing and are left out.
    """
    paths = [folder / "summarize.parquet" for folders in sources.iterations.values() for folder in folders]
    wanted = ["seed", "iteration", "rollouts", *COUNTS, *FIGURES, "sampled_tokens", "total_sampled_tokens", "compute"]
    rows = (
        pl.scan_parquet(paths, glob=False)
        .select("arm", *wanted)
        .filter(pl.col("rollouts") > 0)
        .rename({"arm": "folder"})
        .collect()
    )
    return rows.join(_cells(sources), on="folder", how="left", maintain_order="left")


def updates(sources: Sources) -> pl.DataFrame:
    """Return one row per iteration with an optimizer step: its KEY, and means over its steps of `OF_STEPS`, clip_share.

    clip_share: of the loss tokens, from below and above.
    """
    places = {
        str(folder / "update.parquet"): (name, seed, _number(folder))
        for (name, seed), folders in sources.iterations.items()
        for folder in folders
        if (folder / "update.parquet").is_file()
    }
    schema = {"path": pl.String, "folder": pl.String, "seed": pl.Int64, "iteration": pl.Int64}
    keys = pl.DataFrame([(path, *place) for path, place in places.items()], schema=schema, orient="row")
    if keys.is_empty():
        return (
            keys.drop("path")
            .with_columns(arm=pl.lit(""), regime=pl.lit(""), clip_share=pl.lit(0.0))
            .with_columns(pl.lit(0.0).alias(name) for name in OF_STEPS)
        )
    means = (
        pl.scan_parquet(list(places), glob=False, include_file_paths="path")
        .select("path", *OF_STEPS)
        .group_by("path", maintain_order=True)
        .agg(pl.col(name).mean() for name in OF_STEPS)
        .with_columns(clip_share=pl.col("clipped_low") + pl.col("clipped_high"))
        .collect()
    )
    rows = keys.join(means, on="path", how="inner", maintain_order="left").drop("path")
    return rows.join(_cells(sources), on="folder", how="left", maintain_order="left")


def evaluations(sources: Sources) -> pl.DataFrame:
    """Return pass@k of every evaluated policy: KEY, tokens (sampled until then), final, benchmark, k, value in percent.

    low, high: its 95 % interval over problems.
    A warm start has the folder `warm_start...`, seed and iteration -1, and tokens 0.
    """
    found = [
        (folder / "evaluate_figures.parquet", {"folder": name, "seed": seed, "iteration": _number(folder)})
        for (name, seed), folders in sources.iterations.items()
        for folder in folders
        if (folder / "evaluate_figures.parquet").is_file()
    ]
    found += [
        (folder / "evaluate_figures.parquet", {"folder": name, "seed": -1, "iteration": -1})
        for name, folder in sources.warm_starts.items()
    ]
    frames = [_pass_at_k(path).with_columns(**{k: pl.lit(v) for k, v in place.items()}) for path, place in found]
    figures = dict.fromkeys(("value", "low", "high"), pl.Float64)
    empty = pl.DataFrame(schema={"benchmark": pl.String, "k": pl.Int64, **figures, **KEY})
    rows = pl.concat([empty.drop("arm", "regime").lazy(), *frames], how="diagonal_relaxed").collect()
    last = pl.DataFrame(
        [(name, seed, _number(folders[-1]), True) for (name, seed), folders in sources.iterations.items()],
        schema={"folder": pl.String, "seed": pl.Int64, "iteration": pl.Int64, "final": pl.Boolean},
        orient="row",
    )
    rows = rows.join(last, on=["folder", "seed", "iteration"], how="left", maintain_order="left")
    rows = rows.join(_cells(sources), on="folder", how="left", maintain_order="left")
    tokens = _tokens(sources, {path.parent for path, _ in found})
    rows = rows.join(tokens, on=["folder", "seed", "iteration"], how="left", maintain_order="left")
    return rows.with_columns(pl.col("final").fill_null(False), pl.col("tokens").fill_null(0))


def final_samples(sources: Sources) -> Iterator[tuple[tuple[str, int], pl.DataFrame]]:
    """Yield (cell folder, seed) and the samples of its final evaluation, without token ids, one table at a time."""
    for place, folders in sources.iterations.items():
        file = folders[-1] / "evaluate.parquet"
        if file.is_file():
            yield place, pl.scan_parquet(file, glob=False).drop("prompt_tokens", "response_tokens").collect()


def _pass_at_k(path: Path) -> pl.LazyFrame:
    rows = pl.scan_parquet(path, glob=False).filter(pl.col("metric").cast(pl.String) == "pass_at_k")
    return rows.select("benchmark", pl.col("k").cast(pl.Int64), "value", "low", "high")


def _tokens(sources: Sources, wanted: Iterable[Path]) -> pl.DataFrame:
    """Return the tokens sampled until the end of each iteration in `wanted`."""
    schema = {"folder": pl.String, "seed": pl.Int64, "iteration": pl.Int64, "tokens": pl.Int64}
    paths = sorted(folder / "summarize.parquet" for folder in wanted if (folder / "summarize.parquet").is_file())
    if not paths:
        return pl.DataFrame(schema=schema)
    columns = [pl.col("arm").alias("folder"), "seed", "iteration", pl.col("total_sampled_tokens").alias("tokens")]
    return pl.scan_parquet(paths, glob=False).select(columns).collect()


def _cells(sources: Sources) -> pl.DataFrame:
    rows = [(cell.folder, cell.arm, cell.regime) for cell in sources.cells]
    return pl.DataFrame(rows, schema={"folder": pl.String, "arm": pl.String, "regime": pl.String}, orient="row")


def _number(folder: Path) -> int:
    found = IterationFolder.at(folder)
    assert found
    return found.number
