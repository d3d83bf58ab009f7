"""Packages of trackers that are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from extra_rl.config.tracking import PACKAGES, TrackingConfig, module_of
from extra_rl.preflight import faults


def test_a_missing_package_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    found = list(faults.missing_trackers(TrackingConfig.model_validate(["jsonl", *PACKAGES])))
    assert len(found) == 4
    assert "wandb needs the module wandb, which is not installed: pip install 'extra-rl[wandb]'" in found[1]


def test_a_missing_function_of_a_users_module_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_tracker.py").write_text("raise SystemExit\n\n\ndef send(run, records, before, state): ...\n")
    found = list(faults.missing_trackers(TrackingConfig(to=["own_tracker:send", "own_tracker:sent"])))
    assert found == ["tracking.to: own_tracker:sent: own_tracker defines no sent"]
    (tmp_path / "other_tracker.py").write_text("from own_tracker import *\n")
    assert not list(faults.missing_trackers(TrackingConfig(to=["other_tracker:anything"])))


def test_the_forms_of_the_key() -> None:
    assert TrackingConfig.model_validate(None).to == []
    assert TrackingConfig.model_validate(["jsonl"]) == TrackingConfig(to=["jsonl"])
    assert module_of("a.b:c") == "a.b"
    assert module_of("jsonl") == ""
    for wrong in ("wandb", True, ["jsonl", "jsonl"], ["x"], {"to": ["wandb"], "project": "a/b"}, {"rollouts": -1}):
        with pytest.raises(ValueError, match=r"list of trackers|once|no tracker|project|rollouts"):
            TrackingConfig.model_validate(wrong)
