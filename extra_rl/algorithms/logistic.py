"""Logistic regression of success counts, by a fixed number of Newton steps. Axes: N observations, F features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

Floats = npt.NDArray[np.float64]
STEPS = 25
"""Newton steps; the fit is quadratic near its end, so that further steps change nothing. Source: our decision."""
HALVINGS = 30
"""Largest number of times that a step is halved until the loss does not rise."""


FARTHEST = 3.0
"""Largest distance from the mean, in standard deviations, at which a feature still changes a probability. Branches
resemble each other, and a slope says nothing about rows 50 deviations away. Source: our decision (O)."""


class Fit(NamedTuple):
    """q = 1 / (1 + exp(-(intercept + sum_f slope_f z_f))) with z_f = (x_f - mean_f) / scale_f within +-`FARTHEST`."""

    intercept: float
    slope_F: Floats
    mean_F: Floats
    scale_F: Floats

    def probability(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """q of each row, (N,)."""
        z_NF = np.clip((features_NF - self.mean_F) / self.scale_F, -FARTHEST, FARTHEST)
        return _sigmoid(self.intercept + z_NF @ self.slope_F)


def fit(
    features_NF: npt.NDArray[np.floating],
    successes_N: npt.NDArray[np.integer],
    tries_N: npt.NDArray[np.integer],
    ridge: float,
) -> Fit:
    """The minimum of -sum_n [s_n ln q_n + (t_n - s_n) ln(1 - q_n)] + ridge / 2 sum_f slope_f^2.

    Features are standardised over the rows; a constant one has the scale 1, so that its slope is 0. The intercept has
    no ridge. The steps begin at slope 0 and the pooled success rate, and draw nothing, so equal rows give equal bytes.

    Args:
        features_NF: finite.
        successes_N, tries_N: 0 <= s <= t; at least one success and one failure in all, or the intercept is infinite.
        ridge: above 0; with it the minimum is finite and unique also where the rows are separable.
    Raises ContractError for counts that break these rules.
    """
    total, right = int(tries_N.sum()), int(successes_N.sum())
    if not (0 < right < total and ridge > 0 and (successes_N >= 0).all() and (successes_N <= tries_N).all()):
        raise ContractError(f"a fit needs successes and failures and a ridge above 0, not {right} of {total}, {ridge=}")
    features = np.asarray(features_NF, np.float64)
    mean_F, sd_F = features.mean(axis=0), features.std(axis=0)
    scale_F = np.where(sd_F > 0, sd_F, 1.0)
    design_NP = np.column_stack([np.ones(len(features)), (features - mean_F) / scale_F])
    penalty_P = np.array([0.0, *[ridge] * features.shape[1]])

    def loss(weights_P: Floats) -> float:
        logit_N = design_NP @ weights_P
        # t ln(1 + e^z) - s z is the negative log-likelihood, without overflow
        return float((tries_N * np.logaddexp(0, logit_N) - successes_N * logit_N).sum() + penalty_P @ weights_P**2 / 2)

    weights_P = np.zeros(design_NP.shape[1])
    weights_P[0] = np.log(right / (total - right))
    for _ in range(STEPS):
        q_N = _sigmoid(design_NP @ weights_P)
        gradient_P = design_NP.T @ (tries_N * q_N - successes_N) + penalty_P * weights_P
        curvature_PP = design_NP.T @ (design_NP * (tries_N * q_N * (1 - q_N))[:, None]) + np.diag(penalty_P)
        step_P = np.linalg.solve(curvature_PP, gradient_P)
        before = loss(weights_P)
        for _ in range(HALVINGS):
            if loss(weights_P - step_P) <= before:
                weights_P = weights_P - step_P
                break
            step_P = step_P / 2
    return Fit(float(weights_P[0]), weights_P[1:], mean_F, scale_F)


def _sigmoid(logit_N: Floats) -> Floats:
    """1 / (1 + e^-z) without overflow."""
    return np.exp(-np.logaddexp(0, -logit_N))
