"""Files from the future get the present time; all others keep theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from extra_rl.run.clock import bring_back, note


def test_only_files_of_the_future_are_changed(tmp_path: Path) -> None:
    now = time.time()
    ages = {"old": -100.0, "new": 0.0, "a/made": 7200.0, "a/made_from_it": 7300.0}
    for name, seconds in ages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (now + seconds,) * 2)
    (tmp_path / "link").symlink_to("a/made")
    before = {name: (tmp_path / name).stat().st_mtime for name in ("old", "new")}
    found = bring_back(tmp_path)
    assert found == [tmp_path / "a/made", tmp_path / "a/made_from_it"]
    assert {name: (tmp_path / name).stat().st_mtime for name in before} == before
    times = {path.stat().st_mtime_ns for path in found}
    assert len(times) == 1  # neither is newer than the other
    assert now - 1 < times.pop() / 1e9 < now + 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "link", "new", "old"]
    assert note(tmp_path, found).startswith(f"2 file(s) of {tmp_path} had times in the future, {found[0]} for example")
    assert bring_back(tmp_path) == []
    assert note(tmp_path, []) == ""


def test_without_results_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert bring_back(tmp_path / "results") == []
