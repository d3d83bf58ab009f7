"""`extra check`: every kind of damage is found by content, moved aside without loss, and the right command named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from extra_cli import main
from extra_rl.errors import InputError
from extra_rl.models.policy import write_same_policy
from extra_rl.models.removed import write_removed
from extra_rl.run.integrity import Examination, examine
from extra_rl.run.records import read_json, seconds_of_iteration
from extra_rl.run.repair import commands, set_aside
from extra_rl.tables.files import file_digest
from tests.run.small_run import TABLE, expected_job, flip_bit, inputs, job, put, small_run, swap


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative, as a user names it."""
    monkeypatch.chdir(tmp_path)
    return small_run(Path("results/small"))


def said(found: Examination) -> list[tuple[str, str]]:
    """(kind, path below the results) of every finding."""
    return [(finding.kind, str(Path(*finding.path.parts[2:]))) for finding in found.findings]


EXTRA_0, EXTRA_1 = "extra/s0/iteration_0000", "extra/s0/iteration_0001"
GRPO_0 = "grpo/s0/iteration_0000"


def test_nothing_is_found_in_a_whole_run(results: Path) -> None:
    found = examine(results)
    assert (found.findings, found.tables, found.policies, found.without_digest) == ([], 13, 5, 0)
    assert commands(found) == []


@pytest.mark.parametrize("place", [0.02, 0.5, 0.97])
def test_a_flipped_bit_in_a_table_is_damage(results: Path, place: float) -> None:
    flip_bit(results / EXTRA_0 / "generate.parquet", place)
    found = examine(results)
    assert said(found) == [("damaged", f"{EXTRA_0}/generate.parquet")]
    dependents = {str(path.relative_to(results)) for path in found.dependents(results / EXTRA_0 / "generate.parquet")}
    assert f"{EXTRA_0}/verify_generate.parquet" in dependents
    assert f"{EXTRA_1}/policy/manifest.json" in dependents
    assert not any(path.startswith("grpo") for path in dependents)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("times_kept", [True, False])
def test_a_flipped_bit_in_weights_or_optimizer_state_is_damage(results: Path, name: str, times_kept: bool) -> None:
    path = results / EXTRA_0 / "policy" / name
    status = path.stat()
    flip_bit(path)
    if times_kept:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (finding,) = examine(results).findings
    assert (finding.kind, finding.path) == ("damaged", path.with_name("manifest.json"))
    assert finding.files == (path.with_name("manifest.json"), path)
    assert name in finding.what


def test_swapped_tables_are_foreign_and_not_stale(results: Path) -> None:
    swap(results / EXTRA_0 / "verify_generate.parquet", results / GRPO_0 / "verify_generate.parquet")
    swap(results / EXTRA_0 / "generate.parquet", results / EXTRA_1 / "generate.parquet")
    assert said(examine(results)) == [
        ("foreign", f"{EXTRA_0}/generate.parquet"),
        ("foreign", f"{EXTRA_0}/verify_generate.parquet"),
        ("foreign", f"{EXTRA_1}/generate.parquet"),
        ("foreign", f"{GRPO_0}/verify_generate.parquet"),
    ]


def test_a_policy_of_another_arm_is_foreign(results: Path) -> None:
    swap(results / EXTRA_1 / "policy" / "manifest.json", results / "grpo/s0/iteration_0001/policy/manifest.json")
    kinds = said(examine(results))
    assert ("damaged", f"{EXTRA_1}/policy/manifest.json") in kinds  # its weights are not those that it lists
    assert len(kinds) == 2


def test_a_file_without_a_footer_is_foreign(results: Path) -> None:
    TABLE.write_parquet(results / EXTRA_0 / "update.parquet")
    assert said(examine(results)) == [("foreign", f"{EXTRA_0}/update.parquet")]


def test_what_was_made_from_an_older_table_is_stale(results: Path) -> None:
    path = results / EXTRA_0 / "generate.parquet"
    put(path, "extra/s0/i0/generate", expected_job(path), results / "prepare" / "train.parquet", rows=2)
    assert said(examine(results)) == [
        ("stale", f"{EXTRA_0}/verify_generate.parquet"),
        ("stale", f"{EXTRA_1}/generate.parquet"),
    ]


def test_a_file_is_missing_if_another_was_made_from_it_or_a_record_names_it(results: Path) -> None:
    (results / EXTRA_0 / "generate.parquet").unlink()
    outputs = {"update": f"results/small/{EXTRA_1}/update.parquet", "pool": f"results/small/{EXTRA_1}/pool.parquet"}
    (results / EXTRA_1 / "update.run.json").write_text(json.dumps({"stage": "update", "outputs": outputs}))
    found = examine(results)
    assert said(found) == [("missing", f"{EXTRA_0}/generate.parquet"), ("missing", f"{EXTRA_1}/pool.parquet")]
    assert found.stages[results / EXTRA_1 / "pool.parquet"] == "update"


def test_what_retention_removed_is_not_missing_and_what_was_lost_is(results: Path) -> None:
    folder = results / EXTRA_0 / "policy"
    for name in ("model.safetensors", "optimizer.safetensors"):
        (folder / name).unlink()
    assert said(examine(results)) == [("missing", f"{EXTRA_0}/policy/manifest.json")]
    write_removed(folder, dict.fromkeys(("model.safetensors", "optimizer.safetensors"), "retention.weights_every: 2"))
    assert examine(results).findings == []


def test_a_policy_that_stands_for_an_earlier_one(results: Path) -> None:
    manifest, earlier = (results / folder / "policy" / "manifest.json" for folder in (EXTRA_1, EXTRA_0))
    manifest.with_name("model.safetensors").unlink()
    made = {"name": "extra/s0/i1/policy", "job": expected_job(manifest), "inputs": inputs(earlier)}
    write_same_policy(manifest, earlier, made)
    assert examine(results).findings == []
    text = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(text | {"digest": "0" * 64}))
    assert said(examine(results)) == [("stale", f"{EXTRA_1}/policy/manifest.json")]


def test_different_settings_of_one_stage_are_named(results: Path) -> None:
    path = results / EXTRA_1 / "update.parquet"
    put(path, "extra/s0/i1/update", job("update", "extra", 1, learning_rate=0.03))
    (finding,) = examine(results).findings
    assert (finding.kind, finding.path, finding.files) == ("mixed", path, ())
    assert finding.what.startswith("update.learning_rate: 0.0003, now 0.03 (before, in ")


def test_repair_moves_aside_and_loses_nothing(results: Path) -> None:
    table, weights = results / EXTRA_0 / "generate.parquet", results / EXTRA_0 / "policy" / "model.safetensors"
    flip_bit(table)
    flip_bit(weights)
    before = {path.name: path.read_bytes() for path in (table, weights)}
    moved = set_aside(examine(results).findings)
    assert [old.name for old, _ in moved] == ["generate.parquet", "manifest.json", "model.safetensors"]
    assert all(not old.exists() and new.parent == old.parent for old, new in moved)
    assert {old.name: new.read_bytes() for old, new in moved if old.name in before} == before
    assert said(examine(results)) == [
        ("missing", f"{EXTRA_0}/generate.parquet"),
        ("missing", f"{EXTRA_0}/policy/manifest.json"),
    ]


def test_the_commands_follow_the_iterations_and_the_flow_within_them(results: Path) -> None:
    for name in (f"{EXTRA_1}/generate.parquet", f"{EXTRA_0}/policy/model.safetensors", f"{EXTRA_0}/update.parquet"):
        flip_bit(results / name, 0.3)
    put(results / "warm_start" / "evaluate.parquet", "s0/evaluate", job("evaluate"))
    flip_bit(results / "warm_start" / "evaluate.parquet")
    (results / "prepare" / "train.parquet").unlink()
    record = {"stage": "prepare", "outputs": {"train": "results/small/prepare/train.parquet"}}
    (results / "prepare" / "train.run.json").write_text(json.dumps(record))
    record = {"stage": "evaluate", "outputs": {"evaluate": "results/small/warm_start/evaluate.parquet"}}
    (results / "warm_start" / "evaluate.run.json").write_text(json.dumps(record))
    record = {"stage": "update", "outputs": {"update": f"results/small/{EXTRA_0}/update.parquet"}}
    (results / EXTRA_0 / "update.run.json").write_text(json.dumps(record))
    record = {"stage": "generate", "outputs": {"generate": f"results/small/{EXTRA_1}/generate.parquet"}}
    (results / EXTRA_1 / "generate.run.json").write_text(json.dumps(record))
    run = "snakemake --cores 2 --configfile c.yaml"
    steps = commands(examine(results), "c.yaml")
    assert [steps[0], steps[1], steps[2], steps[4], steps[5]] == [
        f"{run} --allowed-rules prepare -- results/small/prepare/train.parquet",
        f"{run} --allowed-rules evaluate_warm_start -- results/small/warm_start/evaluate.parquet",
        f"{run} --allowed-rules update -- results/small/{EXTRA_0}/update.parquet",
        f"{run} --allowed-rules generate -- results/small/{EXTRA_1}/generate.parquet",
        run,
    ]
    manifest = f"results/small/{EXTRA_0}/policy/manifest.json"
    assert steps[3] == f"{run} --allowed-rules update --config first_iteration=0 -- {manifest}"
    assert len(steps) == 6


def test_the_command_for_a_file_whose_rule_is_not_known(results: Path) -> None:
    (results / EXTRA_1 / "generate.parquet").write_bytes(b"PAR1")
    steps = commands(examine(results), "c.yaml")
    assert steps[0] == f"snakemake --cores 2 --configfile c.yaml -- results/small/{EXTRA_1}/generate.parquet"


def test_the_command_for_an_initial_policy_that_others_stand_for(results: Path) -> None:
    start = results / "warm_start" / "policy" / "manifest.json"
    for folder in (EXTRA_0, GRPO_0):
        manifest = results / folder / "policy" / "manifest.json"
        write_same_policy(
            manifest, start, {"name": f"{folder[:5]}", "job": expected_job(manifest), "inputs": inputs(start)}
        )
    start.unlink()
    found = examine(results)
    assert [line for line in said(found) if line[0] == "missing"] == [("missing", "warm_start/policy/manifest.json")]
    run = "snakemake --cores 2 --configfile c.yaml"
    assert commands(found, "c.yaml")[0] == (
        f"{run} --allowed-rules warm_start -- results/small/warm_start/policy/manifest.json"
    )


def test_a_flipped_bit_in_the_summary_is_damage(results: Path) -> None:
    summary = results / "summary.json"
    summary.write_text(json.dumps({"arms": {"grpo": {"pass@1": 36.7}}}))
    record = {
        "stage": "compare",
        "outputs": {"summary": "results/small/summary.json"},
        "digests": {"summary.json": file_digest(summary)},
    }
    (results / "compare.run.json").write_text(json.dumps(record))
    assert examine(results).findings == []
    assert read_json(summary)["arms"]["grpo"]["pass@1"] == 36.7
    for text in (summary.read_text().replace("36.7", "96.7"), '{"arms'):
        summary.write_text(text)
        found = examine(results)
        assert said(found) == [("damaged", "summary.json")]
        assert "--allowed-rules compare -- results/small/summary.json" in commands(found)[0]
        with pytest.raises(InputError, match=r"summary\.json: .*Delete it and run again"):
            read_json(summary)


def test_a_cut_off_report_is_damage(results: Path) -> None:
    page = results / "report.html"
    page.write_text("<!doctype html><html><body>1</body></html>\n")
    assert examine(results).findings == []
    page.write_text("<!doctype html><html><bo")
    found = examine(results)
    assert said(found) == [("damaged", "report.html")]
    assert "--allowed-rules report -- results/small/report.html" in commands(found)[0]


def test_a_damaged_record_of_times_is_no_fault(results: Path) -> None:
    (results / EXTRA_0 / "update.run.json").write_text('{"stage": "upd')
    assert said(examine(results)) == [("leftover", f"{EXTRA_0}/update.run.json")]
    with pytest.raises(InputError, match=r"update\.run\.json: .*delete it, and the times of this stage are left out"):
        seconds_of_iteration(results / EXTRA_0)
    set_aside(examine(results).findings)
    assert seconds_of_iteration(results / EXTRA_0) == {}


def test_a_temporary_file_is_listed_and_is_no_fault(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (".generate.parquet.0123456789ab.tmp", ".checked.json.0123456789ab.tmp", ".tmp8a6ZDQ")
    for name in (*names, ".nfs000000000001"):  # NFS keeps a removed file under the last name while it is open
        (results / EXTRA_0 / name).touch()
    assert main.main(["check", str(results)]) == 0
    found = capsys.readouterr().out
    assert all(f"LEFTOVER {results / EXTRA_0}/{name}" in found for name in names)
    assert ".nfs" not in found


def test_the_command_says_what_is_wrong_and_what_to_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check", str(results)]) == 0
    assert capsys.readouterr().out == "results/small: 13 tables and 5 policies examined, 0 finding(s)\n"
    flip_bit(results / EXTRA_0 / "generate.parquet")
    assert main.main(["check", str(results)]) == 1
    out = capsys.readouterr().out
    assert f"DAMAGED  results/small/{EXTRA_0}/generate.parquet\n" in out
    assert "file(s) were made from it: " in out
    assert "`extra check results/small --repair` moves them aside" in out
    assert main.main(["check", str(results), "--repair", "--configfile", "c.yaml"]) == 1
    assert "snakemake --cores 2 --configfile c.yaml" in capsys.readouterr().out
    assert not (results / EXTRA_0 / "generate.parquet").exists()


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no table and no policy below it"):
        examine(tmp_path)
    assert main.main(["check", str(tmp_path / "absent")]) == 2
    assert "no table and no policy below it" in capsys.readouterr().err


def test_settings_that_a_schedule_has_changed_are_not_mixed(results: Path) -> None:
    path = results / "extra" / "s0" / "iteration_0001" / "generate.parquet"
    scheduled = job("generate", "extra", 1, group_size=16)
    sources = (results / "extra" / "s0" / "iteration_0000" / "policy" / "manifest.json", path.parents[1])
    for since, kinds in ((0, ["mixed"]), (1, [])):
        by = scheduled | ({"since": since} if since else {})
        put(path, "extra/s0/i1/generate", by, sources[0])
        assert [finding.kind for finding in examine(results).of_kind("mixed")] == kinds
