"""The development pairs and benchmarks, from the folder that EXTRA_TEST_DATA names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest


@pytest.fixture(scope="session")
def pairs() -> pl.DataFrame:
    """Reference and prediction pairs with the expected verdict; $EXTRA_TEST_DATA/verifier/pairs.parquet."""
    return pl.read_parquet(_data("verifier/pairs.parquet"))


@pytest.fixture(scope="session")
def benchmark_golds() -> list[str]:
    names = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
    return [gold for name in names for gold in pl.read_parquet(_data(f"benchmarks/{name}.parquet"))["answer"]]


def _data(name: str) -> Path:
    root = os.environ.get("EXTRA_TEST_DATA")
    if not root:
        pytest.skip("EXTRA_TEST_DATA is not set: it names the folder with verifier/ and benchmarks/")
    return Path(root) / name


@pytest.fixture(scope="session")
def misbehaving() -> Iterator[ModuleType]:
    """The judges of misbehaving_judges.py, importable by name for the workers."""
    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    yield importlib.import_module("misbehaving_judges")
    sys.path.remove(here)
