"""The Slurm profile: Snakemake accepts it, and its groups keep every iteration apart."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from extra_rl.run.configuration import keep_configuration
from extra_rl.tables.files import file_digest
from stages.cells import settings_of
from stages.experiment import experiment_of
from tests.conftest import ROOT, Run, copy_of, environment, new_run

PROFILE = ROOT / "workflow" / "profiles" / "slurm"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="snakemake-executor-plugin-slurm is not installed (pip install -e '.[slurm]')",
)


GROUPS = {
    "sample": ["generate", "select"],
    "judge_generate": ["choose_prefixes", "score_entropy", "verify"],
    "judge_regenerate": ["regenerate", "score_entropy", "verify"],
    "learn": ["advantage", "novelty", "summarize", "update"],
}


def planned(run: Run, *options: str) -> tuple[dict[str, list[str]], list[str]]:
    """Group -> its rules, and the rules of ungrouped jobs."""
    said = run.snakemake("--dry-run", "--workflow-profile", str(PROFILE), *options).stdout
    groups: dict[str, list[str]] = {}
    rules: list[str] = []
    for name, rule in re.findall(r"Group job (\S+) \(jobs|^    rule (\w+):", said, flags=re.MULTILINE):
        rules = groups.setdefault(name, []) if name else rules
        if rule:
            rules.append(rule)
    alone = re.findall(r"^rule (\w+):", said, flags=re.MULTILINE)
    return {name: sorted(rules) for name, rules in groups.items()}, alone


def test_a_shard_is_a_separate_job(tmp_path: Path) -> None:
    groups, alone = planned(new_run(tmp_path, iterations=1, generation={"shards": 3}, granularity="group"))
    expected = GROUPS | {
        "sample": ["select"],
        "judge_generate": ["choose_prefixes", "gather", "score_entropy", "verify"],
        "judge_regenerate": ["gather", "score_entropy", "verify"],
    }
    assert groups == {f"{part}_{arm}_0_0000": rules for arm in ("grpo", "extra") for part, rules in expected.items()}
    assert [alone.count(rule) for rule in ("generate_shard", "regenerate_shard", "generate", "gather")] == [6, 6, 0, 0]


def test_light_stages_share_a_job_where_the_configuration_says_so(tmp_path: Path) -> None:
    groups, _ = planned(new_run(tmp_path / "group", iterations=2, granularity="group"))
    assert groups == {
        f"{part}_{arm}_0_{iteration:04d}": rules
        for arm in ("grpo", "extra")
        for iteration in range(2)
        for part, rules in GROUPS.items()
    }
    groups, alone = planned(new_run(tmp_path / "stage", iterations=2, granularity="stage"))
    assert not groups
    assert alone.count("verify") == 2 * 2 * 2


@pytest.mark.parametrize("granularity", ["run", "run_by_iteration"])
def test_an_arm_and_seed_is_one_job_on_a_cluster_only(tmp_path: Path, granularity: str) -> None:
    run = new_run(tmp_path, iterations=3, seeds=[0, 1], evaluate_every=1, granularity=granularity)
    _, alone = planned(run)
    ends = ["prepare", "warm_start", "evaluate_warm_start", "compare", "report", "all"]
    assert sorted(alone) == sorted([*ends, *4 * ["cell"]])
    said = run.snakemake("--dry-run", "--quiet", "rules").stdout
    assert not re.search(r"^cell ", said, re.MULTILINE)
    of_iterations = "iteration" if granularity == "run_by_iteration" else "update"
    assert re.search(rf"^{of_iterations} +12$", said, re.MULTILINE)


def test_jobs_ask_for_devices_and_for_more_at_the_second_attempt() -> None:
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    resources = profile["set-resources"]
    assert {rule for rule, wanted in resources.items() if wanted.get("gpu") == 1} == {
        *("warm_start", "evaluate_warm_start", "generate", "score_entropy", "cell", "iteration"),
        *("regenerate", "novelty", "update", "evaluate_iteration", "generate_shard", "regenerate_shard"),
    }
    growing = [str(wanted[key]) for wanted in resources.values() for key in ("runtime", "mem_mb") if key in wanted]
    growing += [line.partition("=")[2] for line in profile["default-resources"]]
    # The next job of a cell goes on where the last one ended.
    assert {value for value in growing if not value.endswith("* attempt")} == {str(resources["cell"]["runtime"])}


class Wanted(dict[str, int]):
    """Resources of a job, as the executor reads them: by key and by attribute."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__((name, int(value)) for name, value in pairs)

    def __getattr__(self, name: str) -> int:
        return self[name]


def test_a_tensor_parallel_sampler_is_one_job_with_its_devices_on_one_node(tmp_path: Path) -> None:
    """The words of sbatch that the executor makes of a planned job; `--gpus` alone may take them from several nodes."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    for rule in ("generate_shard", "regenerate_shard"):
        profile["set-resources"][rule]["gpu"] = 2
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    engine = {"backend": "vllm", "engine": {"tensor_parallel": 2}}
    sampling = {"temperature": 1.0, "max_response_tokens": 64, **engine}
    run = new_run(tmp_path, iterations=1, arms={"grpo": {}}, generation={"shards": 3}, sampling=sampling)
    said = run.snakemake("--dry-run", "--workflow-profile", str(tmp_path / "profile"), "--jobs", "8").stdout
    planned = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", said, flags=re.MULTILINE)
    samples = [resources for rule, resources in planned if rule in ("generate_shard", "regenerate_shard")]
    assert len(samples) == 6
    places = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir"), "x")
    for text in samples:
        job = SimpleNamespace(resources=Wanted(re.findall(r"(\w+)=(\d+)(?:,|$)", text)), threads=1)
        words = (get_submit_command(job, places) + set_gres_string(job)).split()
        assert {"--gpus=2", "--nodes=1"} < set(words)


def test_the_profile_names_no_account_and_no_partition() -> None:
    wanted = yaml.safe_load((PROFILE / "config.yaml").read_text())["default-resources"]
    assert [line.partition("=")[0] for line in wanted] == ["runtime", "mem_mb"]


def test_a_cell_is_run_as_a_part_and_marked_when_it_is_done(mini_run: Run, tmp_path: Path) -> None:
    """What a job of `granularity: run` does in its allocation, with the files of a run without it."""
    run = new_run(tmp_path, granularity="run")
    run.snakemake("--", "results/mini/warm_start/policy/manifest.json", "results/mini/prepare/train.parquet")
    keep_configuration(yaml.safe_load(run.config.read_text()), run.results)
    place = [
        "--results",
        "results/mini",
        "--arm",
        "extra",
        "--seed",
        "0",
        "--last",
        "2",
        "--cores",
        "2",
        "--settings",
        "abc",
    ]
    files = ["--configuration", "results/mini/configuration.yaml", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command = [sys.executable, "-m", "stages", "cell", *place, *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (run.results / "grpo").exists()
    assert not (run.results / "compare.parquet").exists()
    cell, whole = run.results / "extra" / "s0", mini_run.results / "extra" / "s0"
    tables = sorted(path.relative_to(whole) for path in whole.rglob("*.parquet"))
    assert len(tables) > 3 * 12
    assert [str(path) for path in tables if file_digest(cell / path) != file_digest(whole / path)] == []
    mark = json.loads((cell / "cell.json").read_text())
    manifest = json.loads((whole / "iteration_0002" / "policy" / "manifest.json").read_text())
    assert mark["settings"] == "abc"
    assert mark["digests"]["policy"] == manifest["digest"]
    # A second Snakemake on the same arm and seed is refused.
    with (cell / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (cell / "iteration_0002" / "summarize.parquet").unlink()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert "is being written by another run" in done.stdout + done.stderr


def test_a_cell_that_the_configuration_does_not_have_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    said = run.snakemake("--dry-run", "--config", "cell=extr/s0", check=False)
    assert "the configuration has no such arm and seed; did you mean `extra/s0`?" in said.stderr


def test_cores_and_jobs_together_are_refused_where_the_plan_depends_on_them(tmp_path: Path) -> None:
    said = new_run(tmp_path, granularity="run").snakemake("--jobs", "2", check=False)
    assert "--jobs and --cores are both given" in said.stderr


def test_a_mark_of_other_settings_is_no_end_of_a_cell(mini_run: Run, tmp_path: Path) -> None:
    """Also where Snakemake has no record of it: its job outlived a killed Snakemake, or the results were copied."""
    run = copy_of(mini_run, tmp_path / "run")
    config = yaml.safe_load(run.config.read_text()) | {"granularity": "run"}
    run.config.write_text(yaml.safe_dump(config))

    def to_run() -> set[str]:
        said = run.snakemake("--dry-run", "--quiet", "rules", "--workflow-profile", str(PROFILE)).stdout
        return set(re.findall(r"^(\w+) +\d+$", said, re.MULTILINE)) - {"total", "all"}

    experiment = experiment_of(config, configured=[run.config])
    for arm in ("grpo", "extra"):
        mark = {"cell": f"{arm}/s0", "settings": settings_of(experiment, arm, 0)}
        (run.results / arm / "s0" / "cell.json").write_text(json.dumps(mark))
    assert "cell" not in to_run()
    run.config.write_text(yaml.safe_dump(config | {"update": config["update"] | {"learning_rate": 1e-3}}))
    assert {"cell", "compare", "report"} <= to_run()
    run.config.write_text(yaml.safe_dump(config))
    (run.results / "extra" / "s0" / "cell.json").write_text("{")
    assert "cell" in to_run()


def test_a_local_run_is_refused_while_a_job_of_a_cluster_writes_a_cell(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "run")
    (run.results / "compare.parquet").unlink()
    with (run.results / "grpo" / "s0" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run.snakemake(check=False)
    assert done.returncode == 2
    assert "grpo/s0 is being written by another run" in done.stderr
