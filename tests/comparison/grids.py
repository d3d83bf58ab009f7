"""Finished experiments made by hand, for the tests of the comparison: what every final policy got right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from stages import compare
from tests.stages.rows import frame, run_stage

SAMPLES = 4


def evaluated(right: Mapping[str, int]) -> pl.DataFrame:
    """What `compare` reads of an evaluation. right: `benchmark/problem` -> how many of 4 samples are right."""
    rows = [
        {
            "problem_id": name,
            "sample_index": n,
            "benchmark": name.partition("/")[0],
            "verdict": "right" if n < count else "wrong",
        }
        for name, count in right.items()
        for n in range(SAMPLES)
    ]
    return frame(contracts.JudgedSamples, rows)


def summary_row(tokens: int = 100) -> pl.DataFrame:
    row = dict.fromkeys(contracts.IterationSummary.columns(), 0)
    return frame(contracts.IterationSummary, [row | {"arm": "extra", "total_sampled_tokens": tokens}])


def compared(
    folder: Path, policies: Mapping[str, Mapping[str, int]], **config: Any
) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """Tables and summary.json of the stage. policies: label -> as `evaluated`. config: of the section, or derived."""
    tables = {f"evaluate:{label}": evaluated(right) for label, right in policies.items()}
    tables |= {f"summarize:{label}": summary_row() for label in policies if "/s" in label}
    derived = {key: config.pop(key) for key in compare.Derived.model_fields if key in config}
    section = {"ks": [1], "resamples": 500, **config}
    made = run_stage(compare, tables, section, derived=derived, outputs={"summary": folder / "summary.json"})
    return made, json.loads((folder / "summary.json").read_text())


def results(folder: Path, policies: Mapping[str, Mapping[str, int]], **config: Any) -> Path:
    """The same as files, as the workflow leaves them in a folder of results."""
    made, _ = compared(folder, policies, **config)
    for name, table in made.items():
        contract = compare.STAGE.writes[name]
        assert isinstance(contract, type)
        write_table(table, folder / f"{name}.parquet", contract, {})  # type: ignore[arg-type]
    return folder


def one_problem(right: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Policies of one benchmark with one problem: pass@1 is 25 points a right sample."""
    return {label: {"A/1": count} for label, count in right.items()}


def of_seeds(arm: str, rights: list[int]) -> dict[str, dict[str, int]]:
    """`one_problem` of an arm's seeds 0, 1, 2, ..."""
    return one_problem({f"{arm}/s{seed}": count for seed, count in enumerate(rights)})
