"""Compare the arms of a finished run: mean and sd over seeds, differences with intervals, budgets.

extra compare results/tiny
extra compare results/grid --benchmarks    # every benchmark too
extra compare results/grid --seeds         # what each seed spent too
extra compare results/grid --json          # the same rows for machines

The figures are read from the tables of the stage `compare`; docs/statistics.md explains them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError

HELP = "arms of a finished run: pass@k over seeds, differences, budgets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of a run, for example results/tiny")
    parser.add_argument("--benchmarks", action="store_true", help="also show every benchmark")
    parser.add_argument("--seeds", action="store_true", help="also show what each seed spent")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps(facts_of(arguments.results), indent=1))
    else:
        print("\n".join(lines_of(arguments.results, arguments.benchmarks, arguments.seeds)))
    return 0


def facts_of(results: Path) -> dict[str, Any]:
    """Return `seeds` and `differences` (rows of compare_seeds and compare_differences), and `summary` (summary.json).

    Raises InputError where the run is not finished.
    """
    from extra_rl.run.records import read_json
    from extra_rl.tables import contracts
    from extra_rl.tables.files import read_table

    for name in ("compare_seeds.parquet", "compare_differences.parquet", "summary.json"):
        if not (results / name).is_file():
            raise InputError(
                f"{results}/{name}: no such file. Name the folder of a finished run (results/<name>); `extra show` "
                "shows an unfinished one."
            )
    return {
        "seeds": read_table(results / "compare_seeds.parquet", contracts.SeedFigures).to_dicts(),
        "differences": read_table(results / "compare_differences.parquet", contracts.Differences).to_dicts(),
        "summary": read_json(results / "summary.json"),
    }


def lines_of(results: Path, every_benchmark: bool, every_seed: bool = False) -> list[str]:
    """Return all lines of the command. Raises as `facts_of`."""
    import polars as pl

    from extra_rl.comparison.evaluated import MEAN
    from extra_rl.comparison.lines import difference_lines, sentence, spread_lines
    from extra_rl.comparison.spending_lines import seed_lines, spent_lines, total_lines
    from extra_rl.tables import contracts

    facts = facts_of(results)
    seeds = pl.DataFrame(facts["seeds"], schema=contracts.SeedFigures.create_empty().schema)
    names = seeds["benchmark"].unique(maintain_order=True).to_list()
    shown = [row for row in facts["differences"] if every_benchmark or row["benchmark"] == MEAN]
    named = [row for row in shown if row["named"]]
    others = [row for row in shown if not row["named"]]
    arms = seeds["arm"].n_unique()
    starts = seeds["warm_start"].n_unique()
    lines = [
        f"{results}: {arms} arm{'s' * (arms > 1)}, seeds {', '.join(map(str, sorted(set(seeds['seed']))))}, "
        f"{starts} warm start{'s' * (starts > 1)}; percent, mean ± sd over seeds",
        *spread_lines(seeds, names if every_benchmark else [MEAN]),
    ]
    if named:
        lines += ["", "Differences named before the run, percentage points, 95 % intervals:", *difference_lines(named)]
    if others:
        lines += [
            "",
            "Exploratory differences (no correction):",
            *difference_lines(others),
        ]
    summary = facts["summary"]
    lines += [*spent_lines(summary), *(seed_lines(summary) if every_seed else []), *total_lines(summary["arms"])]
    return [*lines, "", sentence([row for row in named if row["benchmark"] == MEAN])]
