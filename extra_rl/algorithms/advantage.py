"""Advantages of rollouts: group-normalised reward plus a novelty bonus (docs/method.md, sections 1 and 2).

Each rollout has one advantage; the loss broadcasts it over the response tokens. Rows are rollouts (N) in any order.
`groups_N` holds integer labels; rows with the same label form a group.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.groups import Floats, deviation, group_members, judged, require_none, require_same_length
from extra_rl.algorithms.rare_success import mean_normalised, pass_at_k_normalised

Centring = Literal["none", "among_correct"]
Scale = Literal["none", "group_max", "batch_std"]
Placement = Literal["after_normalisation", "before_normalisation"]
Normalise = Literal["std", "mean_only", "mean", "pass_at_k"]
"""GRPO, Dr. GRPO, MaxRL, and the advantage of pass@k training (docs/method.md, sections 1 and 7)."""

ROUNDING = 1e-6
"""A divisor of the bonus up to this value counts as 0. Cosines of float32 embeddings have errors of about 1e-7, and a
smaller divisor would scale that rounding noise of identical rollouts up to a full bonus. Source: our decision (O)."""
MIN_RELATIVE_STD = 0.5
"""Least divisor of `scale: batch_std`, as a multiple of the mean novelty. In the iterations of tests/configs/mini.yaml
the standard deviation is 0.9 to 1.8 times the mean, so only unusually uniform batches reach the bound. Source: O."""


class Advantages(NamedTuple):
    """The two parts and their sum, float64, (N,): `advantage_N == normalised_N + bonus_N` exactly."""

    normalised_N: Floats
    bonus_N: Floats
    advantage_N: Floats


def normalise_groups(
    rewards_N: npt.NDArray[np.floating],
    groups_N: npt.NDArray[np.integer],
    *,
    std_ddof: int = 1,
    eps: float = 1e-6,
    divide_by_std: bool = True,
) -> Floats:
    """A_i = (r_i - mean_G r) / (std_G r + eps) over the judged rollouts of i's group; float64, (N,).

    A NaN reward marks a rollout that could not be judged. It is excluded from its group's mean and deviation and has
    the advantage 0. A group with fewer than two judged rollouts, or with equal rewards, has exactly 0 everywhere.

    Args:
        rewards_N: verified rewards; NaN: excluded.
        groups_N: group labels.
        std_ddof: degrees of freedom subtracted in the standard deviation: 1 (R) or 0 (the prototype).
        eps: added to the standard deviation.
        divide_by_std: False gives r_i - mean_G r, as in Dr. GRPO (arXiv 2503.20783).
    Raises NumericalError for an infinite reward, ContractError for columns of different lengths.
    Source: GRPO, arXiv 2402.03300; ExTra, arXiv 2606.24994 (P, R). Exclusion: our decision (O).
    """
    groups = judged(rewards_N, groups_N)
    deviation_N = deviation(groups)
    if not divide_by_std:
        return deviation_N
    std_K = np.sqrt(groups.sums(deviation_N**2) / np.maximum(groups.size_K - std_ddof, 1))
    divisor_N = (std_K + eps)[groups.group_N]
    return np.divide(deviation_N, divisor_N, out=np.zeros_like(deviation_N), where=deviation_N != 0)


def group_types(
    correct_N: npt.NDArray[np.bool_], rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer]
) -> npt.NDArray[np.str_]:
    """The type of each rollout's group, (N,), by the correctness of the group's judged rollouts.

    "excluded": fewer than two judged rollouts (reward not NaN); "all_correct"; "all_incorrect"; "mixed": some of them
    are correct. The values of the rewards do not matter: with partial credit a group of any type may have rewards that
    differ, and so a signal. An excluded rollout has the type of its group. Raises the errors of `normalise_groups`.
    Source: our decision (O).
    """
    judged(rewards_N, groups_N)
    groups = group_members(correct_N.astype(np.float64), ~np.isnan(rewards_N), groups_N)
    type_K = np.select(
        [groups.size_K < 2, groups.low_K >= 1, groups.high_K <= 0],
        ["excluded", "all_correct", "all_incorrect"],
        default="mixed",
    )
    return type_K[groups.group_N]


def novelty_bonus(
    novelty_N: npt.NDArray[np.floating],
    correct_N: npt.NDArray[np.bool_],
    groups_N: npt.NDArray[np.integer],
    *,
    weight: float,
    centring: Centring = "none",
    scale: Scale = "none",
    min_relative_std: float = MIN_RELATIVE_STD,
) -> Floats:
    """weight * n_i for correct rollouts, 0 for all others; float64, (N,).

    n is the novelty, first centred, then scaled. Both use the correct rollouts only; the novelty of other rollouts is
    never read. A bonus whose divisor is at most `ROUNDING` is 0.

    Args:
        novelty_N: novelty of each rollout, >= 0.
        correct_N: True for correct rollouts.
        groups_N: group labels.
        weight: alpha of the paper.
        centring: "none" (P, R), or "among_correct" (F): subtract the mean over the group's correct rollouts. Only
            differences then have an effect, and the only correct rollout of a group has the bonus 0.
        scale: "none" (P, R); "group_max" (F): n / max n of the group; "batch_std" (F): n / max(s, c |m|), with s the
            standard deviation (ddof 0) and m the mean of n over all correct rollouts of the call.
        min_relative_std: c. It bounds the mean bonus by weight / c, and a single one by weight (1 / c + sqrt(n - 1))
            for n correct rollouts: without it the bonus grows without limit as the spread approaches 0. 0: no bound.
            After centring m is 0, so the bound has no effect; centred values are at most sqrt(n - 1) deviations.
    Raises NumericalError where the novelty of a correct rollout is not finite, ContractError for columns of different
    lengths.
    """
    require_same_length(novelty=novelty_N, correct=correct_N, groups=groups_N)
    faulty_N = correct_N & ~np.isfinite(novelty_N)
    require_none(faulty_N, "the novelty of correct rollouts is not finite", "novelty measure")
    correct = group_members(novelty_N, correct_N, groups_N)
    match centring:
        case "none":
            centred_N = correct.value_N
        case "among_correct":
            centred_N = deviation(correct)
        case _:
            assert_never(centring)
    match scale:
        case "none":
            return weight * centred_N
        case "group_max":
            max_K = np.zeros(correct.size_K.size)
            np.maximum.at(max_K, correct.group_N, centred_N)
            divisor_N = max_K[correct.group_N]
        case "batch_std":
            rewarded_X = centred_N[correct_N] if correct_N.any() else np.zeros(1)
            divisor_N = np.full(centred_N.shape, max(rewarded_X.std(), min_relative_std * abs(rewarded_X.mean())))
        case _:
            assert_never(scale)
    scaled_N = np.divide(centred_N, divisor_N, out=np.zeros_like(centred_N), where=divisor_N > ROUNDING)
    return weight * scaled_N


def combine(
    rewards_N: npt.NDArray[np.floating],
    bonus_N: npt.NDArray[np.floating],
    groups_N: npt.NDArray[np.integer],
    *,
    placement: Placement = "after_normalisation",
    std_ddof: int = 1,
    eps: float = 1e-6,
    divide_by_std: bool = True,
    normalise: Normalise | None = None,
    k: int = 0,
) -> Advantages:
    """Reward and bonus as one advantage, with the part that each contributes. N(.) is the normalisation.

    Args:
        rewards_N: verified rewards; NaN: excluded.
        bonus_N: of `novelty_bonus`.
        groups_N: group labels.
        placement: "after_normalisation" (P, R): A = N(r) + bonus, not normalised again. In an all-correct group the
            bonus is then the only signal. "before_normalisation" (the authors' released script): A = N(r + bonus); the
            bonus part is A - N(r). It is not 0 for incorrect rollouts, because the bonus changes the group's mean.
        std_ddof, eps, divide_by_std: options of `normalise_groups`.
        normalise: "std" and "mean_only": `normalise_groups` with and without the division; "mean": `mean_normalised`;
            "pass_at_k": `pass_at_k_normalised`, for rewards of 0 and 1 only, so not with a bonus before it. None: by
            `divide_by_std`.
        k: of "pass_at_k".
    Raises the errors of the normalisation.
    """
    require_same_length(rewards=rewards_N, bonus=bonus_N, groups=groups_N)
    form = normalise or ("std" if divide_by_std else "mean_only")

    def normalised(values_N: npt.NDArray[np.floating]) -> Floats:
        match form:
            case "std" | "mean_only":
                return normalise_groups(values_N, groups_N, std_ddof=std_ddof, eps=eps, divide_by_std=form == "std")
            case "mean":
                return mean_normalised(values_N, groups_N)
            case "pass_at_k":
                return pass_at_k_normalised(values_N, groups_N, k)
            case _:
                assert_never(form)

    normalised_N = normalised(rewards_N)
    match placement:
        case "after_normalisation":
            part_N = np.asarray(bonus_N, dtype=np.float64)
        case "before_normalisation":
            part_N = normalised(rewards_N + bonus_N) - normalised_N
        case _:
            assert_never(placement)
    return Advantages(normalised_N, part_N, normalised_N + part_N)


def bonus_share(
    bonus_N: npt.NDArray[np.floating],
    normalised_N: npt.NDArray[np.floating],
    lengths_N: npt.NDArray[np.integer],
) -> float:
    """sum T_i |bonus_i| / sum T_i (|normalised_i| + |bonus_i|): the bonus's share of the signal, from 0 to 1.

    T_i (`lengths_N`) is the number of response tokens over which rollout i's advantage is broadcast. The share is 0
    where every advantage is 0. Pass the rows of one group type to get the share of that type.
    Source: our decision (O), because a bonus of 0.003 next to an advantage of 1 is easily taken for an active mechanism
    (D).
    """
    require_same_length(bonus=bonus_N, normalised=normalised_N, lengths=lengths_N)
    bonus = float(np.sum(lengths_N * np.abs(bonus_N)))
    reward = float(np.sum(lengths_N * np.abs(normalised_N)))
    return bonus / (bonus + reward) if bonus + reward > 0 else 0.0


def positive_only(advantage_N: npt.NDArray[np.floating], continued_N: npt.NDArray[np.bool_]) -> Floats:
    """max(A_i, 0) for continuations of prefixes, A_i for all other rollouts; float64, (N,).

    Source: `guided_advantage: positive_only` of the development history (D).
    """
    require_same_length(advantage=advantage_N, continued=continued_N)
    return np.where(continued_N, np.maximum(advantage_N, 0.0), advantage_N).astype(np.float64)
