"""Packages of trackers that are not installed."""

from __future__ import annotations

import pytest

from extra_rl.config.tracking import PACKAGES, TrackingConfig, module_of
from extra_rl.preflight import faults


def test_a_missing_package_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    found = list(faults.missing_trackers(TrackingConfig.model_validate(["jsonl", *PACKAGES])))
    assert len(found) == 4
    assert "wandb needs the module wandb, which is not installed: pip install 'extra-rl[wandb]'" in found[1]


def test_the_forms_of_the_key() -> None:
    assert TrackingConfig.model_validate(None).to == []
    assert TrackingConfig.model_validate(["jsonl"]) == TrackingConfig(to=["jsonl"])
    assert module_of("a.b:c") == "a.b"
    assert module_of("jsonl") == ""
    for wrong in (["jsonl", "jsonl"], ["x"], {"to": ["wandb"], "project": "a/b"}, {"rollouts": -1}):
        with pytest.raises(ValueError, match=r"once|no tracker|project|rollouts"):
            TrackingConfig.model_validate(wrong)
