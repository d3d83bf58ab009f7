"""Statistics of the groups of a batch, without loops over rows. Axes: N rows in any order, K groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError, NumericalError

Floats = npt.NDArray[np.float64]


class Groups(NamedTuple):
    """Statistics of each group over its members: the rows that a mask selects, such as the judged or the correct
    ones."""

    group_N: npt.NDArray[np.intp]  # index of the row's group, 0 .. K - 1
    member_N: npt.NDArray[np.bool_]
    value_N: Floats  # 0 for rows that are not members, so that sums can run over all rows
    size_K: npt.NDArray[np.intp]  # number of members
    low_K: Floats  # least member value; +inf where a group has no member
    high_K: Floats  # greatest member value; -inf where a group has no member

    def sums(self, values_N: Floats) -> Floats:
        """Sum of the rows' values in each group, (K,)."""
        sums_K = np.bincount(self.group_N, weights=values_N, minlength=self.size_K.size)
        return np.asarray(sums_K, dtype=np.float64)


def group_members(
    values_N: npt.NDArray[np.floating],
    member_N: npt.NDArray[np.bool_],
    groups_N: npt.NDArray[np.integer],
) -> Groups:
    """The groups of a batch and the values of their members.

    values_N: float; not read where `member_N` is False. groups_N: integer labels; equal labels form a group.
    """
    labels_K, group_N = np.unique(groups_N, return_inverse=True)
    value_N = np.where(member_N, values_N, 0.0).astype(np.float64)
    low_K = np.full(labels_K.size, np.inf)
    high_K = np.full(labels_K.size, -np.inf)
    np.minimum.at(low_K, group_N[member_N], value_N[member_N])
    np.maximum.at(high_K, group_N[member_N], value_N[member_N])
    size_K = np.bincount(group_N[member_N], minlength=labels_K.size)
    return Groups(group_N, member_N, value_N, size_K, low_K, high_K)


def deviation(groups: Groups) -> Floats:
    """Each member's value minus the mean over its group's members, (N,); exactly 0 for all other rows.

    It is also exactly 0 where all members of a group have equal values: the computed mean of three times 0.1 is not
    0.1, and a later division by the tiny spread would turn that rounding error into a signal.
    """
    mean_K = groups.sums(groups.value_N) / np.maximum(groups.size_K, 1)
    differs_K = groups.low_K < groups.high_K
    counts_N = groups.member_N & differs_K[groups.group_N]
    return np.where(counts_N, groups.value_N - mean_K[groups.group_N], 0.0)


def require_same_length(**columns: npt.NDArray[np.generic]) -> None:
    """Raise ContractError unless all columns are one-dimensional and of equal length; numpy would broadcast them."""
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ContractError(f"columns must be one-dimensional and of one length, but have the shapes {shapes}")


def judged(rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer]) -> Groups:
    """The groups with their judged rollouts, whose reward is not NaN, as members.

    Raises NumericalError for an infinite reward, ContractError for columns of different lengths.
    """
    require_same_length(rewards=rewards_N, groups=groups_N)
    require_none(np.isinf(rewards_N), "rewards are infinite", "verifier (NaN would exclude a rollout)")
    return group_members(rewards_N, ~np.isnan(rewards_N), groups_N)


def require_none(fault_N: npt.NDArray[np.bool_], fault: str, suspect: str) -> None:
    """Raise NumericalError with the first faulty rows, if there are any."""
    if fault_N.any():
        rows = np.flatnonzero(fault_N)[:5].tolist()
        raise NumericalError(f"{fault} in {fault_N.sum()} rows, the first of them {rows}; check the {suspect}")
