"""The elliptical bonus against numbers worked out by hand and against the inverse of the covariance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from extra_rl.config.section import parse_config
from extra_rl.novelty import MEASURES
from stages import novelty
from tests.novelty.test_laws import make_pool, unit_rows
from tests.novelty.test_laws import novelty as measured


def bonus(*embeddings: tuple[float, ...], ridge: float, memory: tuple[tuple[float, ...], ...] = ()) -> list[float]:
    pool = dataclasses.replace(
        make_pool(np.zeros(len(embeddings)), (0,) * len(memory)),
        embeddings_ND=np.array(embeddings, np.float32),
        memory_embeddings_MD=np.array(memory, np.float32) if memory else None,
    )
    return measured("elliptical", pool, {"ridge": ridge}).novelty_N.tolist()


def test_two_orthogonal_rollouts() -> None:
    # Mean (1/2, 1/2): d = +-(1/2, -1/2), |d|^2 = 1/2, one direction: (1/2) / (ridge + 1/2).
    assert bonus((1, 0), (0, 1), ridge=0.5) == pytest.approx([0.5, 0.5], rel=1e-12)


def test_a_common_direction_counts_less_than_a_rare_one() -> None:
    # Mean (2/3, 1/3), one direction: |d|^2 = 2/9, 2/9, 8/9. First: the others have 2/9 + 8/9 = 10/9:
    # (2/9) / (4/9 + 10/9) = 1/7. Third: the others have 4/9: (8/9) / (4/9 + 4/9) = 1.
    assert bonus((1, 0), (1, 0), (0, 1), ridge=4 / 9) == pytest.approx([1 / 7, 1 / 7, 1.0], rel=1e-6)


def test_three_orthogonal_rollouts() -> None:
    # d.d = 2/3, d_i.d_j = -1/3. (G + ridge) u = k has u = -1 / (1 + 3 ridge) twice, so k.u = (2/3) / (1 + 3 ridge),
    # and the bonus is 2 / (1 + 3 ridge).
    assert bonus((1, 0, 0), (0, 1, 0), (0, 0, 1), ridge=1 / 3) == pytest.approx([1.0] * 3, rel=1e-12)


def test_a_remembered_rollout_is_part_of_the_covariance() -> None:
    # Alone with a remembered one, as with a sibling: (1/2) / (ridge + 1/2).
    assert bonus((1, 0), ridge=1.0, memory=((0, 1),)) == pytest.approx([1 / 3], rel=1e-12)


def test_it_is_the_quadratic_form_of_the_inverse_covariance() -> None:
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(6, 4)))
    found = bonus(*map(tuple, rows), ridge=0.01)
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
    for i in range(6):
        others = np.delete(centred, i, axis=0)
        inverse = np.linalg.inv(others.T @ others + 0.01 * np.eye(4))
        assert found[i] == pytest.approx(centred[i] @ inverse @ centred[i], rel=1e-5)
        assert found[i] <= centred[i] @ centred[i] / 0.01


def test_its_embedder_is_its_reference() -> None:
    for reference in ("policy", "sentence"):
        section = {"measure": "elliptical", "params": {"reference": reference}, "compute": {}}
        assert parse_config(novelty.Config, section, "novelty").embedder() == reference
    assert MEASURES["elliptical"].Params().reference == "policy"
