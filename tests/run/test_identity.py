"""Names of files, whether a file lies where it belongs, and how two jobs differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.results import file_name, named_file
from extra_rl.run.identity import differences, identity_of, require_place
from extra_rl.tables.files import read_provenance
from tests.run.small_run import TABLE, job, put, small_run

NAMES = {
    "extra/s0/iteration_0001/generate.parquet": "extra/s0/i1/generate",
    "extra/s0/iteration_0001/shards/generate_0of4.parquet": "extra/s0/i1/generate_0of4",
    "extra-high/s11/iteration_0120/policy/manifest.json": "extra-high/s11/i120/policy",
    "warm_start/policy/manifest.json": "s0/policy",
    "warm_start_3/evaluate.parquet": "s3/evaluate",
    "prepare/held_out.parquet": "s0/held_out",
    "compare_seeds.parquet": "s0/compare_seeds",
}


@pytest.mark.parametrize(("path", "name"), NAMES.items())
def test_the_name_follows_from_the_place_and_the_place_from_the_name(path: str, name: str) -> None:
    results = Path("results/tiny")
    assert file_name(results / path) == name
    assert named_file(results, name) == results / path


@pytest.mark.parametrize(
    "path", ["/tmp/out/generate.parquet", "extra/s0/iteration_0001/summary.json", "x/policy/a.json"]
)
def test_other_paths_have_no_name(path: str) -> None:
    assert file_name(Path(path)) is None


@pytest.mark.parametrize("name", ["source:train", "extra/s0/policy/x/y", "extra/s0/generate", ""])
def test_other_names_have_no_place(name: str) -> None:
    assert named_file(Path("results/tiny"), name) is None


def test_an_identity_is_read_from_footer_and_manifest(tmp_path: Path) -> None:
    results = small_run(tmp_path / "results" / "small")
    table = identity_of(results / "extra" / "s0" / "iteration_0001" / "generate.parquet")
    policy = identity_of(results / "extra" / "s0" / "iteration_0000" / "policy" / "manifest.json")
    assert (table.name, table.job["stage"], table.job["iteration"]) == ("extra/s0/i1/generate", "generate", 1)
    assert table.inputs["extra/s0/i0/policy"] == policy.digest
    assert policy.job["config"]["learning_rate"] == 3e-4


def test_a_table_of_another_cell_is_refused_with_both_names(tmp_path: Path) -> None:
    path = tmp_path / "extra" / "s0" / "iteration_0001" / "generate.parquet"
    put(path, "grpo/s0/i1/generate", job("generate", "grpo", 1))
    with pytest.raises(
        InputError, match=r"holds grpo/s0/i1/generate by its footer; extra/s0/i1/generate belongs there"
    ):
        require_place(path, read_provenance(path))


def test_a_table_that_no_stage_wrote_is_refused_in_a_run_and_taken_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "extra" / "s0" / "iteration_0001" / "generate.parquet"
    path.parent.mkdir(parents=True)
    TABLE.write_parquet(path)
    with pytest.raises(InputError, match="no stage wrote"):
        require_place(path, read_provenance(path))
    require_place(path.rename(tmp_path / "generate.parquet"), {})


def test_differences_name_keys_as_a_user_writes_them() -> None:
    made = job("update", learning_rate=3e-4, lora={"rank": 4}, old=1)
    today = job("update", learning_rate=3e-2, lora=None) | {"version": 2}
    today["config"]["sampling"] = {"temperature": 0.6}
    assert differences(made, today) == [
        "sampling.temperature: 1.0, now 0.6",
        "update.learning_rate: 0.0003, now 0.03",
        "update.lora.rank: 4, now (not set)",
        "update.lora: (not set), now None",
        "update.old: 1, now (not set)",
        "version of the stage update: 1, now 2",
    ]
    assert differences(made, made) == []
