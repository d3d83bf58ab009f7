"""A real Slurm for the tests of this folder (`make test-slurm`), and undisturbed local runs to compare with.

Where it cannot be brought up, all tests are skipped with the reason. A Slurm that is up already is used and left up.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Run, copy_of
from tests.slurm.cluster import Slurm, said, small_run

HERE = Path(__file__).parent
LONGEST_SECONDS = 240
"""How long the packages may take to be downloaded and installed."""

WithAccounting = Callable[[], Slurm]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without accounting first: it cannot be taken away from a Slurm."""
    here = [item for item in items if item.path.parent == HERE]
    first = [item for item in here if "slurm_without_accounting" in getattr(item, "fixturenames", ())]
    order = iter([*first, *(item for item in here if item not in first)])
    items[:] = [next(order) if item.path.parent == HERE else item for item in items]


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with the state of the tests' Slurm, which ends with the session."""
    folder = tmp_path_factory.mktemp("slurm-state")
    yield folder
    subprocess.run([str(HERE / "down.sh"), str(folder)], check=True, timeout=60)


def up(folder: Path, accounting: bool) -> Slurm:
    """Bring Slurm up, or find the one that is up; skip where neither is possible."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed (pip install -e '.[slurm]')")
    command = [str(HERE / "up.sh"), str(folder)]
    variables = os.environ | {"WITH_DBD": str(int(accounting))}
    try:
        done = subprocess.run(command, env=variables, text=True, capture_output=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"no Slurm: its packages were not installed within {LONGEST_SECONDS} s")
    if done.returncode:
        pytest.skip(f"no Slurm: {done.stderr.strip() or done.stdout.strip()}")
    config = said("scontrol", "show", "config")
    node = said("sinfo", "--noheader", "--Node", "--format=%N").split()[0]
    has_accounting = "accounting_storage/slurmdbd" in re.findall(r"AccountingStorageType\s*= (\S+)", config)
    return Slurm(has_accounting, (folder / "ours").exists(), node)


@pytest.fixture(scope="session")
def slurm_without_accounting(state: Path) -> Slurm:
    """Slurm as it is without a database: squeue works, sacct does not."""
    slurm = up(state, accounting=False)
    if slurm.accounting:
        pytest.skip("the Slurm that is up on this machine has accounting")
    return slurm


@pytest.fixture(scope="session")
def slurm(state: Path) -> Slurm:
    """Slurm with accounting; without, where one is up already that has none."""
    return up(state, accounting=True)


@pytest.fixture(scope="session")
def accounting(slurm: Slurm) -> Slurm:
    """Slurm with accounting."""
    if not slurm.accounting:
        pytest.skip("the Slurm that is up on this machine has no accounting")
    return slurm


def reference(folder: Path, **changes: object) -> Run:
    run = small_run(folder, **changes)
    run.snakemake()
    return run


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A local run without disturbance: two arms, two iterations. Tests copy it."""
    return reference(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def local_in_shards(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with two shards."""
    return reference(tmp_path_factory.mktemp("local_in_shards"), generation={"shards": 2})


@pytest.fixture
def without(tmp_path: Path) -> Callable[..., Run]:
    """A copy of a finished run that has lost folders of its results, and what was made from all."""

    def make(run: Run, *lost: str) -> Run:
        copy = copy_of(run, tmp_path / "run")
        for name in lost:
            subprocess.run(["rm", "-r", str(copy.results / name)], check=True)
        return copy

    return make
