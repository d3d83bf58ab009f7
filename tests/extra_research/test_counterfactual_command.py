"""extra counterfactual: other settings on the rollouts of a finished iteration, exact where they are the run's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_research.__main__ import main
from extra_research.advantages import novelty_of
from extra_research.commands.counterfactual import requested_variants
from extra_research.contracts import (
    CounterfactualAdvantages,
    CounterfactualPrefixes,
    CounterfactualRules,
    CounterfactualVariants,
)
from extra_research.finished import open_stage
from extra_research.prefixes import choices_under, continued_in
from extra_rl.tables import contracts, read_table
from extra_rl.tables.files import write_table
from tests.conftest import Run, copy_of

TABLES = {
    "advantages": CounterfactualAdvantages,
    "variants": CounterfactualVariants,
    "prefixes": CounterfactualPrefixes,
    "rules": CounterfactualRules,
}


def iteration(run: Run, number: int = 1, arm: str = "extra") -> Path:
    return run.results / arm / "s0" / f"iteration_{number:04d}"


def made(folder: Path) -> dict[str, pl.DataFrame]:
    return {name: read_table(folder / f"{name}.parquet", contract) for name, contract in TABLES.items()}


def of(table: pl.DataFrame, variant: str) -> dict[str, Any]:
    return table.row(by_predicate=pl.col("variant") == variant, named=True)


def test_the_runs_own_settings_give_the_runs_own_tables(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = iteration(mini_run)
    before = sorted(p.name for p in folder.iterdir())
    assert main(["counterfactual", str(folder), "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in folder.iterdir()) == before
    found = made(tmp_path)
    own = found["advantages"].filter(variant="as_it_was").drop("variant")
    was = pl.read_parquet(folder / "advantage.parquet")
    assert own.equals(was.select(own.columns))
    row = of(found["variants"], "as_it_was")
    assert row["bonus_share"] == pl.read_parquet(folder / "summarize.parquet")["bonus_share"][0] > 0
    assert (row["rank_correlation"], row["sign_changed"], row["groups_gained"], row["groups_lost"]) == (1, 0, 0, 0)
    said = capsys.readouterr().out
    assert "measure=lexical" in said
    assert str(tmp_path / "rules.parquet") in said


def test_without_a_weight_there_is_no_bonus_and_nothing_else_changes(mini_run: Run, tmp_path: Path) -> None:
    assert main(["counterfactual", str(iteration(mini_run)), "--out", str(tmp_path)]) == 0
    found = made(tmp_path)
    long = {name: found["advantages"].filter(variant=name) for name in ("as_it_was", "weight=0.0", "measure=zero")}
    assert long["weight=0.0"]["normalised"].equals(long["as_it_was"]["normalised"])
    assert long["weight=0.0"]["bonus"].abs().sum() == 0 < long["as_it_was"]["bonus"].abs().sum()
    assert long["weight=0.0"].drop("variant").equals(long["measure=zero"].drop("variant"))
    assert of(found["variants"], "weight=0.5")["bonus_share"] > of(found["variants"], "as_it_was")["bonus_share"]


def test_the_prefixes_that_the_run_chose_and_those_of_other_rules(mini_run: Run, tmp_path: Path) -> None:
    folder = iteration(mini_run, 0)
    assert main(["counterfactual", str(folder), "--out", str(tmp_path)]) == 0
    found = made(tmp_path)
    run = pl.read_parquet(folder / "choose_prefixes.parquet")
    rules = {row["rule"]: row for row in found["rules"].iter_rows(named=True)}
    own = rules["as_it_was"]
    assert (own["share_in_run"], own["jaccard"]) == (1.0, 1.0)
    assert (own["candidates"], own["chosen"]) == (len(run), run["chosen"].sum())
    assert own["mean_score"] == pytest.approx(run.filter("chosen")["score"].mean())
    assert rules["cut=none"]["share_in_run"] == 0.0
    assert rules["rank=high_mean_entropy prefixes_per_problem=1"]["mean_score"] > own["mean_score"]
    continued = pl.read_parquet(iteration(mini_run) / "generate.parquet").filter(origin="regenerated")
    right = pl.read_parquet(iteration(mini_run) / "verify_generate.parquet").filter(verdict="right")
    assert own["continued"] == continued["prefix_id"].n_unique() > 0
    rescued = continued.filter(pl.col("rollout_id").is_in(right["rollout_id"].implode()))["prefix_id"].n_unique()
    assert own["rescued"] == rescued


def test_the_runs_rule_named_in_other_words_overlaps_in_full(mini_run: Run) -> None:
    """Run again, not read from the table."""
    folder = iteration(mini_run, 0)
    chooser = open_stage(folder, "choose_prefixes")
    rule = {"cut": chooser.config().cut, "rank": chooser.config().rank}
    row = choices_under([rule], chooser, continued_in(folder)).rules.row(0, named=True)
    assert (row["share_in_run"], row["jaccard"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        *({"measure": name, "params": {}} for name in ("zero", "lexical", "ngram_count", "surprise")),
        *({"params": {"pool": p, "aggregate": a}} for p, a in (("all", "nearest"), ("correct", "mean"))),
        {"measure": "random", "params": {"reference": "policy", "within": "group"}},
    ],
    ids=str,
)
def test_a_measure_gives_what_the_stage_would(mini_run: Run, changes: dict[str, Any]) -> None:
    """The stage embeds again; here the stored embeddings are used."""
    former = open_stage(iteration(mini_run), "novelty")
    found = novelty_of(former, changes)
    assert found.equals(former.rerun(changes)["novelty"].select("rollout_id", "novelty"))
    assert len(found) > 20


def test_remembered_rollouts_count_as_in_the_stage(mini_run: Run) -> None:
    """The memory of the first iteration, as if it had been kept, in the comparison sets of the second."""
    first, second = (open_stage(iteration(mini_run, n), "novelty") for n in (0, 1))
    memory = first.rerun({"remember": 6})["novelty_memory"].with_columns(
        problem_id=pl.lit(second.inputs["generate"]["problem_id"][0])
    )
    given = second.with_table("previous_novelty_memory", memory)
    with_memory = type(second)(**{**second.__dict__, "inputs": given})
    found = novelty_of(with_memory, {})
    assert found.equals(with_memory.rerun()["novelty"].select("rollout_id", "novelty"))
    assert not found.equals(novelty_of(second, {}))


def test_a_run_without_either_mechanism(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["counterfactual", str(iteration(mini_run, 0, "grpo")), "--out", str(tmp_path)]) == 0
    found = made(tmp_path)
    assert of(found["variants"], "as_it_was")["bonus_share"] == 0
    assert of(found["variants"], "measure=lexical weight=0.1")["bonus_share"] > 0
    assert found["rules"]["share_in_run"].null_count() == len(found["rules"])
    assert found["rules"]["chosen"][0] == 0 < found["rules"]["chosen"][1]


def test_one_more_variant_and_every_combination(mini_run: Run, tmp_path: Path) -> None:
    arguments = ["counterfactual", str(iteration(mini_run)), "--out", str(tmp_path), "--every-combination"]
    assert main([*arguments, "--also", "measure=ngram_count", "params={n: 2}", "weight=0.3"]) == 0
    found = made(tmp_path)["variants"]
    assert len(found) == 9 * 4 * 2 * 3 * 2 * 2 + 2 + 1
    assert found["variant"][-1] == "measure=ngram_count n=2 weight=0.3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["colour=red"], "--also colour=red: expected KEY=VALUE with one of the keys measure, params, "),
        (["weight"], "--also weight: expected KEY=VALUE"),
        (["weight=-1"], "advantage.weight: Input should be greater than or equal to 0"),
        (["measure=nothing"], "unknown measure 'nothing'"),
        (["weight=[}"], "not a YAML value"),
    ],
)
def test_a_variant_that_cannot_be(
    words: list[str], message: str, mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["counterfactual", str(iteration(mini_run)), "--out", str(tmp_path), "--also", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_no_iteration(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, message in (
        (tmp_path / "nowhere", "no such folder; name a folder iteration_NNNN"),
        (mini_run.results, "no generate.parquet; name a folder iteration_NNNN"),
    ):
        assert main(["counterfactual", str(folder)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["advantage", "verify_generate", "score_entropy_regenerate", "choose_prefixes"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    name: str, mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = iteration(copy_of(mini_run, tmp_path / "copy"))
    (folder / f"{name}.parquet").unlink()
    assert main(["counterfactual", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder / name}.parquet: no such file. Make it with `snakemake --cores 2 -- " in said


def test_a_missing_record(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = iteration(copy_of(mini_run, tmp_path / "copy"))
    (folder / "advantage.run.json").unlink()
    assert main(["counterfactual", str(folder)]) == 2
    assert f"{folder / 'advantage.run.json'}: no readable record of how advantage.parquet" in capsys.readouterr().err


def test_an_iteration_after_the_budget(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(
        folder
        for folder in sorted(mini_run.results.glob("*/s0/iteration_*"))
        if pl.read_parquet(folder / "generate.parquet").is_empty()
    )
    for command in ("counterfactual", "gradient-noise"):
        assert main([command, str(folder), "--out", str(tmp_path)]) == 2
        assert "name an earlier iteration" in capsys.readouterr().err


def test_a_table_that_this_code_would_not_make(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the stage had another version by now; what is made from it is made new too, so that nothing is stale."""
    folder = iteration(copy_of(mini_run, tmp_path / "copy"))
    file = folder / "advantage.parquet"
    table = pl.read_parquet(file).with_columns(bonus=pl.lit(0.0, pl.Float32), advantage=pl.col("normalised"))
    write_table(table, file, contracts.Advantages, {})
    assert main(["counterfactual", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "extra/s0/i1: advantage of the run is not what stage advantage version" in said
    assert not (folder / "counterfactual").exists()


def test_surprise_is_left_out_where_not_every_rollout_was_scored(
    mini_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with score_entropy.rows: signal."""
    advantage, novelty = (open_stage(iteration(mini_run), name) for name in ("advantage", "novelty"))
    words = argparse.Namespace(every_combination=False, also=[])

    def tries_surprise(stage: Any) -> bool:
        return any(
            variant.novelty.get("measure") == "surprise" for variant in requested_variants(advantage, stage, words)
        )

    assert tries_surprise(novelty)
    assert capsys.readouterr().out == ""
    scores = novelty.inputs["score_entropy_generate"]
    first = pl.int_range(pl.len()) == 0
    unscored = scores.with_columns(policy_logprobs=pl.when(~first).then("policy_logprobs"))
    assert not tries_surprise(replace(novelty, inputs=novelty.with_table("score_entropy_generate", unscored)))
    assert "left out: measure=surprise" in capsys.readouterr().out
