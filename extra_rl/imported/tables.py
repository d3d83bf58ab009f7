"""The tables of an import, as the stages that would have made them write them; their footers say `import` instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from extra_rl.imported.groups import Cell, Problems, Rollout
from extra_rl.problems.prepared import problems_frame
from extra_rl.results import RunFolder, file_name
from extra_rl.run.execute import PACKAGES
from extra_rl.run.identity import content_digest
from extra_rl.tables import contracts
from extra_rl.tables.files import canonical_json, write_table
from extra_rl.verdict import Verdict

STAGE, VERSION = "import", 1
"""What the footers of imported tables name as their stage."""

EMPTY: Mapping[str, type[dy.Schema]] = {
    "regenerate": contracts.Rollouts,
    "score_entropy_regenerate": contracts.TokenScores,
    "choose_prefixes": contracts.Prefixes,
    "choose_prefixes_pool": contracts.PrefixPool,
    "choose_prefixes_bank": contracts.ReplayBank,
    "choose_prefixes_branches": contracts.PrefixBranches,
    "choose_prefixes_groups": contracts.FreshGroups,
    "update": contracts.UpdateSteps,
}
"""Tables without rows: nothing of this happened here. A stage that is run afterwards replaces its own."""


class Writer:
    """Writes tables below a results folder with the provenance of an import.

    settings: what follows from the files and options of the import, the same for all tables of an arm.
    """

    def __init__(self, results: Path, settings: Mapping[str, Any]) -> None:
        import importlib.metadata

        self._results, self._settings = results, settings
        self._packages = {name: importlib.metadata.version(name) for name in PACKAGES}

    def provenance(self, arm: str = "", seed: int = 0, iteration: int = 0, **inputs: Path) -> dict[str, Any]:
        """The footer of a table, or the manifest of a policy. inputs: files of this import that it was made from."""
        job = {"stage": STAGE, "version": VERSION, "seed": seed, "arm": arm, "iteration": iteration}
        made_from = {role: {"name": file_name(path), "digest": content_digest(path)} for role, path in inputs.items()}
        settings = self._settings if arm else {}
        return {"job": {**job, "config": dict(settings)}, "inputs": made_from, "packages": self._packages}

    def write(self, frame: pl.DataFrame, path: Path, contract: type[dy.Schema], footer: Mapping[str, Any]) -> None:
        """Write a table with its name in the footer; arguments as in `tables.files.write_table`."""
        write_table(contract.cast(frame), path, contract, {**footer, "name": file_name(path)})

    def problems(self, problems: Problems, sources: Sequence[Mapping[str, Any]]) -> Path:
        """Write the tables of `prepare/`; return the path of the problems."""
        folder, footer = self._results / "prepare", self.provenance()
        train = folder / "train.parquet"
        self.write(problems_frame(list(problems)), train, contracts.Problems, footer)
        for name, contract in (("held_out", contracts.Problems), ("dropped", contracts.DroppedProblems)):
            self.write(contract.create_empty(), folder / f"{name}.parquet", contract, footer)
        rows = pl.DataFrame(list(sources), schema=contracts.Sources.create_empty().schema, strict=False)
        self.write(rows, folder / "sources.parquet", contracts.Sources, footer)
        return train

    def iteration(self, cell: Cell, number: int, train: Path) -> Path:
        """Write the rollouts of an iteration, what their file says about them, and the empty tables; its folder."""
        folder = RunFolder.of(self._results, cell.arm, cell.seed).iteration(number)
        rows, place = cell.iterations[number], cell.place(number)
        footer = self.provenance(cell.arm, cell.seed, number, train=train)
        groups = {f"{place}/{row.group}": row.problem_id for row in rows}
        select = pl.DataFrame(
            {"group_id": list(groups), "problem_id": list(groups.values()), "position": range(len(groups))}
        )
        self.write(select, folder / "select.parquet", contracts.Selection, footer)
        self.write(rollouts(rows, place), folder / "generate.parquet", contracts.Rollouts, footer)
        own = self.provenance(cell.arm, cell.seed, number, generate=folder / "generate.parquet")
        self.write(as_given(rows, place), folder / "imported.parquet", contracts.ImportedRows, own)
        for name, contract in EMPTY.items():
            self.write(contract.create_empty(), folder / f"{name}.parquet", contract, footer)
        unscored = pl.DataFrame({"rollout_id": [id_of(row, place) for row in rows]}).with_columns(
            policy_logprobs=pl.lit(None, pl.List(pl.Float32)),
            entropies=pl.lit(None, pl.List(pl.Float32)),
            computed_tokens=pl.lit(0, pl.Int64),
        )
        self.write(unscored, folder / "score_entropy_generate.parquet", contracts.TokenScores, own)
        return folder

    def verdicts(self, cell: Cell, number: int, folder: Path, column: str, right_from: float) -> None:
        """Write verdicts that follow from the file's own rewards: right where the reward is `right_from` or more.

        Args:
            cell: the arm and seed.
            number: of the iteration.
            folder: of the iteration.
            column: of the rewards, for the column `rule`.
            right_from: smallest reward of a correct response.
        """
        rows, place = cell.iterations[number], cell.place(number)
        footer = self.provenance(cell.arm, cell.seed, number, rollouts=folder / "generate.parquet")
        rewards = [row.record.reward for row in rows]
        right, wrong = Verdict.RIGHT.value, Verdict.WRONG.value
        found: dict[str, Any] = {
            "rollout_id": [id_of(row, place) for row in rows],
            "gold": [row.record.answer or "" for row in rows],
            "verdict": [right if reward is not None and reward >= right_from else wrong for reward in rewards],
            "rule": [f"imported: {column}"] * len(rows),
            "reward": rewards,
        }
        absent = {name: [None] * len(rows) for name in contracts.Verdicts.columns() if name not in found}
        frame = pl.DataFrame({**found, **absent}, strict=False)
        self.write(frame, folder / "verify_generate.parquet", contracts.Verdicts, footer)
        empty = contracts.Verdicts.create_empty()
        self.write(empty, folder / "verify_regenerate.parquet", contracts.Verdicts, footer)


def id_of(row: Rollout, place: str) -> str:
    """Return the id of a rollout. place: beginning of the ids of its iteration."""
    return f"{place}/{row.group}/{row.n}"


def rollouts(rows: Sequence[Rollout], place: str) -> pl.DataFrame:
    """Return the table `generate` of an iteration. place: beginning of the ids."""
    schema = contracts.Rollouts.create_empty().schema
    return pl.DataFrame(
        [
            {
                "rollout_id": id_of(row, place),
                "group_id": f"{place}/{row.group}",
                "problem_id": row.problem_id,
                "origin": "fresh",
                "prefix_id": None,
                "parent_rollout_id": None,
                "prefix_length": 0,
                "prompt_tokens": row.prompt.tokens,
                "response_tokens": row.response.tokens,
                "sampler_logprobs": row.response.logprobs,
                "sampled_tokens": len(row.response.tokens),
                "finish_reason": row.response.finish,
                "response": row.response.text,
            }
            for row in rows
        ],
        schema=schema,
        strict=False,
    )


def as_given(rows: Sequence[Rollout], place: str) -> pl.DataFrame:
    """Return the table `imported` of an iteration. place: beginning of the ids."""
    return pl.DataFrame(
        [
            {
                "rollout_id": id_of(row, place),
                "place": row.record.place,
                "step": row.record.step,
                "reward": row.record.reward,
                "advantage": row.record.advantage,
                "further": canonical_json(dict(row.record.further)),
            }
            for row in rows
        ],
        schema=contracts.ImportedRows.create_empty().schema,
        strict=False,
    )
