"""Advantages of rollouts: group-normalised reward plus a novelty bonus (docs/method.md, sections 1 and 2).

One value a rollout; the loss broadcasts it over the response tokens. Rows are rollouts (N) in any order;
`groups_N` holds integer labels, and rows of one label are one group.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.groups import Floats, Groups, deviation, group_members, require_same_length
from extra_rl.errors import NumericalError

Centring = Literal["none", "among_correct"]
Scale = Literal["none", "group_max", "batch_std"]
Placement = Literal["after_normalisation", "before_normalisation"]

ROUNDING = 1e-6
"""A bonus's divisor up to this counts as 0. Cosines of float32 embeddings are wrong by about 1e-7: dividing
by less would blow up the rounding noise of identical rollouts to a bonus of full size. Our decision (O)."""


class Advantages(NamedTuple):
    """The parts and their sum, float64: `advantage_N == normalised_N + bonus_N` to the last bit."""

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
    """A_i = (r_i - mean_G r) / (std_G r + eps), over the judged rollouts of i's group; float64, (N,).

    A NaN reward marks an excluded rollout (it could not be judged): it leaves its group's mean and deviation
    and gets 0. A group with fewer than two judged rollouts, or with equal rewards, gets exactly 0.

    std_ddof: 1 (R) or 0 (the prototype).
    divide_by_std: False gives r_i - mean_G r, the form of Dr. GRPO (arXiv 2503.20783).
    Raises NumericalError for an infinite reward, ContractError for columns of different length.
    Source: GRPO, arXiv 2402.03300; ExTra, arXiv 2606.24994 (P, R). Exclusion: our decision (O).
    """
    judged = _judged(rewards_N, groups_N)
    deviation_N = deviation(judged)
    if not divide_by_std:
        return deviation_N
    std_K = np.sqrt(judged.sums(deviation_N**2) / np.maximum(judged.size_K - std_ddof, 1))
    divisor_N = (std_K + eps)[judged.group_N]
    return np.divide(deviation_N, divisor_N, out=np.zeros_like(deviation_N), where=deviation_N != 0)


def group_types(rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer]) -> npt.NDArray[np.str_]:
    """What kind of group each rollout belongs to, (N,), from the group's least and greatest judged reward.

    "excluded": fewer than two judged (not NaN) rollouts; "all_correct": min >= 1; "all_incorrect": max <= 0;
    "mixed": everything else. A group whose rewards are all 0.5 is "mixed": some credit, not full credit. An
    excluded row of a group that has two judged ones carries its group's type. Source: our decision (O).
    Raises as `normalise_groups`.
    """
    judged = _judged(rewards_N, groups_N)
    type_K = np.select(
        [judged.size_K < 2, judged.low_K >= 1, judged.high_K <= 0],
        ["excluded", "all_correct", "all_incorrect"],
        default="mixed",
    )
    return type_K[judged.group_N]


def novelty_bonus(
    novelty_N: npt.NDArray[np.floating],
    correct_N: npt.NDArray[np.bool_],
    groups_N: npt.NDArray[np.integer],
    *,
    weight: float,
    centring: Centring = "none",
    scale: Scale = "none",
) -> Floats:
    """weight * n_i for correct rollouts, 0 for all others; float64, (N,).

    n is the novelty, first centred, then scaled, over correct rollouts only (others' novelty is never read):
    centring: "none" (P, R) | "among_correct": minus the mean over the group's correct rollouts, so that only
        differences push and a lone correct rollout gets 0 (F).
    scale: "none" (P, R) | "group_max": n / max n of the group | "batch_std": n / standard deviation (ddof 0)
        over all correct rollouts of the call. A bonus whose divisor is at most `ROUNDING` is 0 (F).
    Raises NumericalError where a correct rollout's novelty is not finite, ContractError for columns of
    different length.
    """
    require_same_length(novelty=novelty_N, correct=correct_N, groups=groups_N)
    faulty_N = correct_N & ~np.isfinite(novelty_N)
    _require_none(faulty_N, "the novelty of correct rollouts is not finite", "novelty measure")
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
            std = centred_N[correct_N].std() if correct_N.any() else 0.0
            divisor_N = np.full(centred_N.shape, std)
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
) -> Advantages:
    """Reward and bonus as one advantage, and the part that each contributed. N(.) is `normalise_groups`.

    "after_normalisation" (P, R): A = N(r) + bonus, never re-normalised. In a group that is all correct the
    bonus is then the only signal.
    "before_normalisation" (the authors' released script): A = N(r + bonus). The bonus part is A - N(r), which
    is not 0 for the group's wrong rollouts, because the mean moves with the bonus.
    The remaining options and errors are those of `normalise_groups`.
    """
    require_same_length(rewards=rewards_N, bonus=bonus_N, groups=groups_N)

    def normalise(values_N: npt.NDArray[np.floating]) -> Floats:
        return normalise_groups(values_N, groups_N, std_ddof=std_ddof, eps=eps, divide_by_std=divide_by_std)

    normalised_N = normalise(rewards_N)
    match placement:
        case "after_normalisation":
            part_N = np.asarray(bonus_N, dtype=np.float64)
        case "before_normalisation":
            part_N = normalise(rewards_N + bonus_N) - normalised_N
        case _:
            assert_never(placement)
    return Advantages(normalised_N, part_N, normalised_N + part_N)


def bonus_share(
    bonus_N: npt.NDArray[np.floating],
    normalised_N: npt.NDArray[np.floating],
    lengths_N: npt.NDArray[np.integer],
) -> float:
    """sum T_i |bonus_i| / sum T_i (|normalised_i| + |bonus_i|): the bonus's part of the push, from 0 to 1.

    T_i (`lengths_N`) are the response tokens over which rollout i's advantage is broadcast. 0 where nothing
    pushes at all. Pass the rows of one group type to get that type's share. Source: our decision (O), because
    a bonus of 0.003 beside an advantage of 1 is easily taken for an active mechanism (D).
    """
    require_same_length(bonus=bonus_N, normalised=normalised_N, lengths=lengths_N)
    bonus = float(np.sum(lengths_N * np.abs(bonus_N)))
    reward = float(np.sum(lengths_N * np.abs(normalised_N)))
    return bonus / (bonus + reward) if bonus + reward > 0 else 0.0


def positive_only(advantage_N: npt.NDArray[np.floating], guided_N: npt.NDArray[np.bool_]) -> Floats:
    """max(A_i, 0) for guided (regenerated) rollouts, A_i for all others; float64, (N,).

    Source: `guided_advantage: positive_only` of the development history (D).
    """
    require_same_length(advantage=advantage_N, guided=guided_N)
    return np.where(guided_N, np.maximum(advantage_N, 0.0), advantage_N).astype(np.float64)


def _judged(rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer]) -> Groups:
    require_same_length(rewards=rewards_N, groups=groups_N)
    _require_none(np.isinf(rewards_N), "rewards are infinite", "verifier (NaN would exclude a rollout)")
    return group_members(rewards_N, ~np.isnan(rewards_N), groups_N)


def _require_none(fault_N: npt.NDArray[np.bool_], fault: str, suspect: str) -> None:
    if fault_N.any():
        rows = np.flatnonzero(fault_N)[:5].tolist()
        raise NumericalError(f"{fault} in {fault_N.sum()} rows, the first of them {rows}; check the {suspect}")
