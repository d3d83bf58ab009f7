"""A warm worker, one for each test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extra_rl.worker.launch import Worker, start


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        worker = start(tmp_path_factory.mktemp("log"), preload=["json"])
        yield worker
        worker.stop()
