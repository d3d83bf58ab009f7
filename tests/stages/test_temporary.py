"""The main process of a run claims Snakemake's temporary folders; the process of a job does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from extra_rl.run.claim import CLAIM
from stages.temporary import claim_temporary_folders


@pytest.mark.parametrize("main", [True, False])
def test_the_main_process_claims_both_folders(tmp_path: Path, main: bool) -> None:
    folders = [tmp_path / "snakemake01234abc", tmp_path / "cache" / "tmp01234abc"]
    left = [folder.with_name(folder.name.replace("abc", "def")) for folder in folders]
    for folder in (*folders, *left):
        folder.mkdir(parents=True)
    for folder in left:
        (folder / CLAIM).touch()  # no process holds its lock
    claim_temporary_folders(
        SimpleNamespace(
            is_main_process=main,
            snakemake_tmp_dir=folders[0],
            sourcecache=SimpleNamespace(runtime_cache_path=str(folders[1])),
        )
    )
    assert [(folder / CLAIM).is_file() for folder in folders] == [main, main]
    assert [folder.exists() for folder in left] == [not main, not main]
