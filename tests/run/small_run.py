"""Results of a run written by hand: two arms, two iterations, a few stages, with the footers that stages write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extra_rl.models.policy import write_manifest
from extra_rl.results import iteration_name, place_name
from extra_rl.run.identity import content_digest, identity_of
from extra_rl.tables import contracts, write_table
from extra_rl.tables.files import read_provenance
from tests.stages.rows import group, tables_of

ARMS, ITERATIONS = ("extra", "grpo"), 2
TABLE = tables_of(group("rwe"))["verify_generate"]
LEARNING_RATE = 3e-4


def job(stage: str, arm: str = "", iteration: int = 0, seed: int = 0, **section: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "version": 1,
        "seed": seed,
        "config": {"sampling": {"temperature": 1.0}, **section},
        "arm": arm,
        "iteration": iteration,
    }


def inputs(*paths: Path) -> dict[str, dict[str, str]]:
    """The entry `inputs` of a footer for files that are there."""
    found = {}
    for path in paths:
        one = identity_of(path)
        found[path.stem] = {"name": one.name, "digest": one.digest or content_digest(path)}
    return found


def put(path: Path, name: str, by: Mapping[str, Any], *sources: Path, rows: int = 3) -> Path:
    """A table as a stage leaves it."""
    write_table(TABLE.head(rows), path, contracts.Verdicts, {"name": name, "job": by, "inputs": inputs(*sources)})
    return path


def put_policy(manifest: Path, name: str, by: Mapping[str, Any], *sources: Path) -> Path:
    """A policy whose weights are bytes that follow from its name."""
    manifest.parent.mkdir(parents=True, exist_ok=True)
    (manifest.parent / "model.safetensors").write_bytes(name.encode() * 20)
    (manifest.parent / "optimizer.safetensors").write_bytes(name.encode() * 30)
    write_manifest(manifest, {"name": name, "job": by, "inputs": inputs(*sources)})
    return manifest


def small_run(results: Path, learning_rate: float = LEARNING_RATE) -> Path:
    """prepare, warm_start, and of each iteration generate, verify_generate, update and the policy."""
    train = put(results / "prepare" / "train.parquet", "s0/train", job("prepare"))
    start = put_policy(results / "warm_start" / "policy" / "manifest.json", "s0/policy", job("warm_start"), train)
    for arm in ARMS:
        policy, previous = start, train
        for i in range(ITERATIONS):
            here, place = results / arm / "s0" / iteration_name(i), place_name(arm, 0, i)
            by = {stage: job(stage, arm, i) for stage in ("generate", "verify")}
            generate = put(here / "generate.parquet", f"{place}/generate", by["generate"], policy, previous)
            verify = put(here / "verify_generate.parquet", f"{place}/verify_generate", by["verify"], generate, train)
            step = job("update", arm, i, learning_rate=learning_rate)
            put(here / "update.parquet", f"{place}/update", step, policy, verify)
            policy = put_policy(here / "policy" / "manifest.json", f"{place}/policy", step, policy, verify)
            previous = generate
    return results


def flip_bit(path: Path, place: float = 0.5) -> None:
    """Change one bit at a fraction of the file, in place."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def expected_job(path: Path) -> dict[str, Any]:
    """The job in a file's footer: what an unchanged configuration gives today."""
    return dict(identity_of(path).job) if path.name == "manifest.json" else dict(read_provenance(path)["job"])
