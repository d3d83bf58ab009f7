"""The Slurm profile: Snakemake accepts it, and its groups keep every iteration apart."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Run, new_run

PROFILE = ROOT / "workflow" / "profiles" / "slurm"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="snakemake-executor-plugin-slurm is not installed (pip install -e '.[slurm]')",
)


def planned(run: Run) -> tuple[dict[str, list[str]], list[str]]:
    """Group -> its rules, and the rules of ungrouped jobs."""
    said = run.snakemake("--dry-run", "--workflow-profile", str(PROFILE)).stdout
    groups: dict[str, list[str]] = {}
    rules: list[str] = []
    for name, rule in re.findall(r"Group job (\S+) \(jobs|^    rule (\w+):", said, flags=re.MULTILINE):
        rules = groups.setdefault(name, []) if name else rules
        if rule:
            rules.append(rule)
    alone = re.findall(r"^rule (\w+):", said, flags=re.MULTILINE)
    return {name: sorted(rules) for name, rules in groups.items()}, alone


def test_a_shard_is_a_separate_job(tmp_path: Path) -> None:
    groups, alone = planned(new_run(tmp_path, iterations=1, generation={"shards": 3}))
    assert groups == {
        f"{part}_{arm}_0_0000": rules
        for arm in ("grpo", "extra")
        for part, rules in {
            "sample": ["select"],
            "judge_generate": ["choose_prefixes", "gather", "score_entropy", "verify"],
            "judge_regenerate": ["gather", "score_entropy", "verify"],
            "learn": ["advantage", "novelty", "summarize", "update"],
        }.items()
    }
    assert [alone.count(rule) for rule in ("generate_shard", "regenerate_shard", "generate", "gather")] == [6, 6, 0, 0]


def test_a_dry_run_passes_and_groups_light_stages(tmp_path: Path) -> None:
    groups, _ = planned(new_run(tmp_path, iterations=2))
    assert groups == {
        f"{part}_{arm}_0_{iteration:04d}": rules
        for arm in ("grpo", "extra")
        for iteration in range(2)
        for part, rules in {
            "sample": ["generate", "select"],
            "judge_generate": ["choose_prefixes", "score_entropy", "verify"],
            "judge_regenerate": ["regenerate", "score_entropy", "verify"],
            "learn": ["advantage", "novelty", "summarize", "update"],
        }.items()
    }


def test_rules_that_sample_or_train_request_a_device() -> None:
    resources = yaml.safe_load((PROFILE / "config.yaml").read_text())["set-resources"]
    assert {rule for rule, wanted in resources.items() if wanted["gpu"] == 1} == {
        *("warm_start", "evaluate_warm_start", "generate", "score_entropy"),
        *("regenerate", "novelty", "update", "evaluate_iteration", "generate_shard", "regenerate_shard"),
    }
