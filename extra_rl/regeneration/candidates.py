"""Candidate prefixes: cut from the rollouts of hard groups, ranked, and stored in the tables of `choose_prefixes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from extra_rl.algorithms import prefixes
from extra_rl.errors import InputError
from extra_rl.seeding import generator
from extra_rl.tables import contracts

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A prefix that can be continued; a row of `contracts.Prefixes` before and after the choice.

    prefix_logprobs: of the sampler; None where they are not known (an imported rollout).
    rank: position in the order of choice. copies: how many times `continuations_per_prefix` rollouts continue it; 0:
    not chosen.
    """

    prefix_id: str
    group_id: str
    problem_id: str
    parent_rollout_id: str | None
    iteration: int
    prompt_tokens: tuple[int, ...]
    prefix_tokens: tuple[int, ...]
    prefix_logprobs: tuple[float, ...] | None
    parent_length: int | None
    cut_reason: str
    score: float | None
    smoothed_score: float | None = None
    effective_neighbours: float | None = None
    estimate: float | None = None
    rank: int = 0
    copies: int = 0

    def for_group(self, group_id: str) -> Candidate:
        """The candidate as one of another group of the same problem; its id then contains that group."""
        return replace(self, group_id=group_id, prefix_id=f"{self.prefix_id}>{group_id}")

    def smoothed(self, score: float, neighbours: float) -> Candidate:
        """The candidate with its smoothed score (nats) and its effective number of neighbours."""
        return replace(self, smoothed_score=score, effective_neighbours=neighbours)


def candidates_of(
    failed: pl.DataFrame,
    *,
    tokenizer_file: Path,
    boundary: str,
    cut: prefixes.CutRule,
    rank: prefixes.RankRule,
    scores_from: str = "policy",
    first: float,
    last: float,
    min_tokens: int,
    max_cuts: int,
    iteration: int,
    seed: int,
    resample: bool = False,
) -> dict[str, list[Candidate]]:
    """The candidates of each group by its group_id. A rollout without a cut has no candidate.

    Args:
        failed: incorrect fresh rollouts of hard groups, with verdicts, and with token scores unless `scores_from` is
            `sampler`.
        tokenizer_file: manifest of the policy whose tokenizer decodes the response tokens.
        boundary: text that ends a step.
        cut: `every_boundary`: all cuts of a rollout; `before_peak_...` and `random`: one of them; `none`: the empty
            prefix of the group (a fresh resample).
        rank: determines whether scores are mean entropies or mean surprisals.
        scores_from: `policy`: surprisal is -policy_logprobs; `sampler`: surprisal is -sampler_logprobs, all scores are
            mean surprisals, and no column of token scores is read.
        first, last, min_tokens: as in `prefixes.candidate_cuts`.
        max_cuts: largest number of candidates of a response, and of a group, spread evenly over its rollouts
            (docs/method.md 3).
        iteration: iteration that sampled the rollouts.
        seed: of `cut: random`.
        resample: whether the empty prefix of each group is a further candidate, its first (`action: cheapest`).
    Raises InputError for a rollout without token scores (`score_entropy.rows: signal`).
    """
    groups: dict[str, list[Candidate]] = {}
    empty: dict[str, list[Candidate]] = {}
    if failed.is_empty():
        return groups
    ends_step = boundary_tokens(tokenizer_file, boundary, failed["response_tokens"].explode().unique().to_list())
    for row in failed.iter_rows(named=True):
        group = row["group_id"]
        if cut == "none":
            groups.setdefault(group, [_empty_prefix(row, iteration)])
            continue
        if resample and group not in empty:
            empty[group], groups[group] = [_empty_prefix(row, iteration)], []
        tokens = row["response_tokens"]
        nats_T = _token_nats(row, scores_from)
        by_surprisal = rank == "low_mean_surprisal" or rank in prefixes.BY_FIT or scores_from == "sampler"
        score_T = nats_T["surprisal" if by_surprisal else "entropy"]
        boundary_T = np.array([token in ends_step for token in tokens])
        allowed, fallback = prefixes.candidate_cuts(
            boundary_T, first=first, last=last, min_tokens=min_tokens, max_cuts=max_cuts
        )
        reason = "fixed_stride" if fallback else "boundary"
        if cut in ("before_peak_entropy", "before_peak_surprisal"):
            peak = prefixes.peak_cut(nats_T[cut.removeprefix("before_peak_")], allowed)
            allowed, reason = ([] if peak is None else [peak]), "fixed_stride" if fallback else "before_peak"
        elif cut == "random":
            drawn = prefixes.random_cut(allowed, generator(seed, row["rollout_id"]))
            allowed, reason = ([] if drawn is None else [drawn]), "random"
        for length in allowed:
            candidate = Candidate(
                prefix_id=f"{row['rollout_id']}@{length}",
                group_id=group,
                problem_id=row["problem_id"],
                parent_rollout_id=row["rollout_id"],
                iteration=iteration,
                prompt_tokens=tuple(row["prompt_tokens"]),
                prefix_tokens=tuple(tokens[:length]),
                prefix_logprobs=_first(row["sampler_logprobs"], length),
                parent_length=len(tokens),
                cut_reason=reason,
                score=prefixes.mean_score(score_T, length),
            )
            groups.setdefault(group, []).append(candidate)
    return {group: empty.get(group, []) + prefixes.spread(found, max_cuts) for group, found in groups.items()}


def _token_nats(row: Mapping[str, Any], scores_from: str) -> dict[str, np.ndarray]:
    """`entropy` and `surprisal` of a rollout's tokens, each (T,) in nats; only `surprisal` from a sampler."""
    if scores_from == "sampler":
        if row["sampler_logprobs"] is None:
            raise InputError(
                f"rollout {row['rollout_id']} was imported without the sampler's logprobs, which "
                "choose_prefixes.scores_from: sampler reads. Use scores_from: policy."
            )
        return {"surprisal": -np.array(row["sampler_logprobs"])}
    if row["policy_logprobs"] is None:
        raise InputError(
            f"rollout {row['rollout_id']} was not scored (score_entropy.rows: signal), so it has no entropies and no "
            "policy logprobs to cut it by. Use choose_prefixes.scores_from: sampler, or score_entropy.rows: all."
        )
    return {"entropy": np.array(row["entropies"]), "surprisal": -np.array(row["policy_logprobs"])}


def _first(logprobs: Sequence[float] | None, length: int) -> tuple[float, ...] | None:
    return None if logprobs is None else tuple(logprobs[:length])


def _empty_prefix(row: Mapping[str, Any], iteration: int) -> Candidate:
    """The candidate without prefix tokens: a fresh sample of the group's prompt."""
    group = row["group_id"]
    prompt: tuple[int, ...] = tuple(row["prompt_tokens"])
    return Candidate(f"{group}@0", group, row["problem_id"], None, iteration, prompt, (), (), None, "fresh", None)


def boundary_tokens(tokenizer_file: Path, boundary: str, token_ids: Sequence[int]) -> set[int]:
    """The ids among `token_ids` whose text contains `boundary`, also within a merged token such as ".\\n\\n".

    Reads only the `tokenizer.json` of the policy and needs no torch. tokenizer_file: manifest of the policy.
    """
    tokenizer = tokenizer_of(tokenizer_file)
    return {token for token in token_ids if boundary in tokenizer.decode([token], skip_special_tokens=False)}


def tokenizer_of(policy_file: Path) -> Tokenizer:
    """The tokenizer of the policy that a manifest describes, without loading transformers."""
    from tokenizers import Tokenizer

    from extra_rl.models.policy import resolve

    return Tokenizer.from_file(str(resolve(policy_file) / "tokenizer.json"))


def with_rank(
    candidates: Sequence[Candidate], order: Sequence[int], chosen: Sequence[int], repeat: int = 1
) -> list[Candidate]:
    """The candidates with rank and copies.

    Args:
        candidates: of one group.
        order: their indices in the order of choice.
        chosen: indices of the chosen ones.
        repeat: copies of each chosen one.
    """
    rank = {index: position for position, index in enumerate(order)}
    copies = dict.fromkeys(chosen, repeat)
    return [replace(candidate, rank=rank[i], copies=copies.get(i, 0)) for i, candidate in enumerate(candidates)]


def prefix_frame(rows: Sequence[Candidate], continuations: int, when: str) -> pl.DataFrame:
    """The table `choose_prefixes`. continuations: rollouts for each copy of a candidate; when: their sampling call."""
    names = [n for n in contracts.Prefixes.columns() if n not in ("chosen", "continuations", "when")]
    return contracts.Prefixes.cast(
        pl.DataFrame(
            [
                {name: getattr(row, name) for name in names}
                | {"chosen": row.copies > 0, "continuations": row.copies * continuations, "when": when}
                for row in rows
            ],
            schema=contracts.Prefixes.create_empty().schema,
        )
    )


def remembered(pool: pl.DataFrame, by: str = "group_id") -> dict[str, list[Candidate]]:
    """The candidates of a pool table by column `by`: `group_id` for waiting ones, `problem_id` for remembered ones.

    The oldest come first.
    """
    found: dict[str, list[Candidate]] = {}
    for row in pool.iter_rows(named=True):
        del row["waiting"]
        lists: dict[str, Any] = {name: tuple(row[name]) for name in ("prompt_tokens", "prefix_tokens")}
        lists["prefix_logprobs"] = _first(row["prefix_logprobs"], len(row["prefix_tokens"]))
        found.setdefault(row[by], []).append(Candidate(**{**row, **lists}))
    return found


def pool_frame(
    waiting: Sequence[Candidate],
    memory: Mapping[str, Sequence[Candidate]],
    fresh: Sequence[Candidate],
    remember: int,
) -> pl.DataFrame:
    """The table `choose_prefixes_pool` that the next iteration reads.

    Args:
        waiting: candidates of the groups that were not continued in this iteration.
        memory: remembered candidates by problem, oldest first.
        fresh: candidates of this iteration, to be remembered.
        remember: how many of the latest candidates are kept for each problem; 0: none.
    """
    by_problem = {problem: list(items) for problem, items in memory.items()}
    for candidate in fresh:
        by_problem.setdefault(candidate.problem_id, []).append(candidate)
    latest = [c for items in by_problem.values() for c in items[-remember:]] if remember else []
    names = [name for name in contracts.PrefixPool.columns() if name != "waiting"]
    return contracts.PrefixPool.cast(
        pl.DataFrame(
            [
                {name: getattr(c, name) for name in names} | {"waiting": is_waiting}
                for is_waiting, candidates in ((True, waiting), (False, latest))
                for c in candidates
            ],
            schema=contracts.PrefixPool.create_empty().schema,
        )
    )
