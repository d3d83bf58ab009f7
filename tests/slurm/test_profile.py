"""The profile as it is shipped, with and without accounting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run, copy_of
from tests.slurm.cluster import PROFILE, ClusterRun, Slurm, assert_same_results, on_slurm, small_run

pytestmark = pytest.mark.slow


def test_as_shipped_without_an_account(slurm_without_accounting: Slurm, local: Run, tmp_path: Path) -> None:
    """Also: the log folders of another run in the same checkout stay."""
    run = on_slurm(small_run(tmp_path), "run_by_iteration")
    others = tmp_path / ".snakemake" / "slurm_logs" / "rule_of_another_run"
    others.mkdir(parents=True)
    shipped = ClusterRun(run.workdir, run.config, PROFILE)
    said = shipped.snakemake().stderr
    assert_same_results(shipped, local)
    assert "account" not in said.lower()
    assert {job.work.partition("_wildcards")[0] for job in shipped.ended()} == {
        *("rule_prepare", "rule_warm_start", "rule_evaluate_warm_start", "rule_cell", "rule_compare", "rule_report")
    }
    assert len(shipped.ended()) == 7
    assert others.is_dir()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("slurm_account=nobody", "The given account nobody appears to be invalid. Available accounts:"),
        ("slurm_partition=nowhere", "Invalid partition name specified"),
    ],
    ids=["account", "partition"],
)
def test_what_slurm_refuses_gives_one_message(
    accounting: Slurm, local: Run, tmp_path: Path, wrong: str, message: str
) -> None:
    run = on_slurm(copy_of(local, tmp_path / "run"))
    (run.results / "report.html").unlink()
    done = run.snakemake("--default-resources", wrong, "runtime=5", "mem_mb=400", check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert said.count(message) == 1
    assert "Traceback" not in said
    assert run.jobs() == run.ended() == []
