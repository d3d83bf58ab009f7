"""The Kubernetes profile: its keys are those of the plugin, and a dry run passes. Nothing runs on a cluster here."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_rl.planning.profile import GROUPS, read_profile
from tests.conftest import ROOT, new_run

PROFILES = ROOT / "workflow" / "profiles"
MISSING = [
    name
    for name in ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
    if importlib.util.find_spec(name) is None
]
needs_plugins = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install -e '.[kubernetes]')"
)


def profile(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROFILES / name / "config.yaml").read_text())
    return found


def test_devices_are_those_of_slurm_and_groups_those_of_the_workflow() -> None:
    ours, slurm = (read_profile(PROFILES / name / "config.yaml") for name in ("kubernetes", "slurm"))
    assert len(ours.gpus) == 10
    assert {rule: slurm.gpus.get(rule) for rule in ours.gpus} == ours.gpus
    assert {rule: name.replace("_{arm}_{seed}", "") for rule, name in ours.groups.items()} == GROUPS


def test_a_device_has_a_manufacturer_and_a_limit() -> None:
    """The plugin refuses `gpu` without the first, and Kubernetes an extended resource without the second."""
    assert {"scale=0", "gpu_manufacturer='nvidia'"} <= set(profile("kubernetes")["default-resources"])


@needs_plugins
def test_keys_are_settings_of_the_plugin() -> None:
    plugin = importlib.import_module("snakemake_executor_plugin_kubernetes")
    known = {field.name for field in dataclasses.fields(plugin.ExecutorSettings)}
    used = {key.removeprefix("kubernetes-").replace("-", "_") for key in profile("kubernetes") if "kubernetes-" in key}
    assert used == {"namespace", "persistent_volumes"}
    assert used <= known
    (volume,) = plugin.parse_persistent_volumes(profile("kubernetes")["kubernetes-persistent-volumes"])
    assert str(volume.path) == profile("kubernetes")["default-storage-prefix"]


@needs_plugins
def test_a_dry_run_passes(tmp_path: Path) -> None:
    run = new_run(tmp_path, iterations=2)
    done = run.snakemake("--dry-run", "--workflow-profile", str(PROFILES / "kubernetes"))
    groups = re.findall(r"Group job (\S+) \(jobs", done.stdout)
    assert sorted(set(groups)) == sorted(
        f"{part}_{arm}_0_{iteration:04d}"
        for part in ("sample", "judge_generate", "judge_regenerate", "learn")
        for arm in ("grpo", "extra")
        for iteration in range(2)
    )
    assert "/mnt/extra/results/mini/warm_start/policy/manifest.json (send to storage)" in done.stdout
    assert "gpu=1, gpu_manufacturer=nvidia" in done.stdout or "gpu_manufacturer=nvidia, gpu=1" in done.stdout
