"""Candidate prefixes between rollouts and the tables of `choose_prefixes`: cut, named, ranked, remembered."""

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
    """A prefix that could be sampled on from; a row of `contracts.Prefixes` before and after the choice.

    rank: place in the order of choice. copies: how often it is to be served (0: not chosen).
    """

    prefix_id: str
    group_id: str
    problem_id: str
    parent_rollout_id: str | None
    iteration: int
    prompt_tokens: tuple[int, ...]
    prefix_tokens: tuple[int, ...]
    prefix_logprobs: tuple[float, ...]
    parent_length: int | None
    cut_reason: str
    score: float | None
    smoothed_score: float | None = None
    effective_neighbours: float | None = None
    rank: int = 0
    copies: int = 0

    def serving(self, group_id: str) -> Candidate:
        """A remembered prefix in the service of another group of the same problem."""
        return replace(self, group_id=group_id, prefix_id=f"{self.prefix_id}>{group_id}")

    def smoothed(self, score: float, neighbours: float) -> Candidate:
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
) -> dict[str, list[Candidate]]:
    """group_id -> candidates cut from failed fresh rollouts (with verdicts and token scores, hard groups only).

    cut: `every_boundary` gives all cuts of a rollout, `before_peak_...` and `random` one of them, `none` the empty
    prefix of the group (a fresh resample). rank: says whether a score is of entropy or of surprisal. scores_from:
    `policy`: surprisal is -policy_logprobs; `sampler`: it is -sampler_logprobs, every score is of it, and no column of
    token scores is read. A rollout without any cut gives no candidate. max_cuts: at most so many a response, and again
    so many a group, spread evenly over its rollouts (docs/method.md 3). Raises InputError for a rollout that was not
    scored (`score_entropy.rows: signal`).
    """
    groups: dict[str, list[Candidate]] = {}
    if failed.is_empty():
        return groups
    ends_step = boundary_tokens(tokenizer_file, boundary, failed["response_tokens"].explode().unique().to_list())
    for row in failed.iter_rows(named=True):
        group = row["group_id"]
        if cut == "none":
            groups.setdefault(group, [_empty_prefix(row, iteration)])
            continue
        tokens = row["response_tokens"]
        nats_T = _nats_of(row, scores_from)
        score_T = nats_T["surprisal" if rank == "low_mean_surprisal" or scores_from == "sampler" else "entropy"]
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
                prefix_logprobs=tuple(row["sampler_logprobs"][:length]),
                parent_length=len(tokens),
                cut_reason=reason,
                score=prefixes.mean_score(score_T, length),
            )
            groups.setdefault(group, []).append(candidate)
    return {group: prefixes.spread(candidates, max_cuts) for group, candidates in groups.items()}


def _nats_of(row: Mapping[str, Any], scores_from: str) -> dict[str, np.ndarray]:
    """`entropy` and `surprisal` of a rollout's tokens, each (T,) in nats; of a sampler only the latter."""
    if scores_from == "sampler":
        return {"surprisal": -np.array(row["sampler_logprobs"])}
    if row["policy_logprobs"] is None:
        raise InputError(
            f"rollout {row['rollout_id']} was not scored (score_entropy.rows: signal), so it has no entropy or policy "
            "logprob to cut it by. Use choose_prefixes.scores_from: sampler, or score_entropy.rows: all."
        )
    return {"entropy": np.array(row["entropies"]), "surprisal": -np.array(row["policy_logprobs"])}


def _empty_prefix(row: Mapping[str, Any], iteration: int) -> Candidate:
    group = row["group_id"]
    prompt: tuple[int, ...] = tuple(row["prompt_tokens"])
    return Candidate(f"{group}@0", group, row["problem_id"], None, iteration, prompt, (), (), None, "fresh", None)


def boundary_tokens(tokenizer_file: Path, boundary: str, token_ids: Sequence[int]) -> set[int]:
    """The ids whose text contains `boundary` (a merged token such as ".\\n\\n" counts).

    Needs the `tokenizer.json` of the policy only, not torch.
    """
    tokenizer = tokenizer_of(tokenizer_file)
    return {token for token in token_ids if boundary in tokenizer.decode([token], skip_special_tokens=False)}


def tokenizer_of(policy_file: Path) -> Tokenizer:
    """Return the tokenizer of the policy that a manifest describes, without loading transformers."""
    from tokenizers import Tokenizer

    from extra_rl.models.policy import resolve

    return Tokenizer.from_file(str(resolve(policy_file) / "tokenizer.json"))


def with_rank(
    candidates: Sequence[Candidate], order: Sequence[int], chosen: Sequence[int], repeat: int = 1
) -> list[Candidate]:
    """The candidates with their place in `order`; the `chosen` are served `repeat` times."""
    rank = {index: place for place, index in enumerate(order)}
    picked = set(chosen)
    return [
        replace(candidate, rank=rank[i], copies=repeat if i in picked else 0) for i, candidate in enumerate(candidates)
    ]


def prefix_frame(rows: Sequence[Candidate], continuations: int, when: str) -> pl.DataFrame:
    """The `choose_prefixes` table."""
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
    """Candidates out of a pool table, by group (waiting) or by problem (memory), oldest first."""
    found: dict[str, list[Candidate]] = {}
    for row in pool.iter_rows(named=True):
        del row["waiting"]
        lists = {name: tuple(row[name]) for name in ("prompt_tokens", "prefix_tokens", "prefix_logprobs")}
        found.setdefault(row[by], []).append(Candidate(**{**row, **lists}))
    return found


def pool_frame(
    waiting: Sequence[Candidate],
    memory: Mapping[str, Sequence[Candidate]],
    fresh: Sequence[Candidate],
    remember: int,
) -> pl.DataFrame:
    """The pool that the next iteration reads: groups that wait, and the last `remember` prefixes of each problem."""
    kept = {problem: list(items) for problem, items in memory.items()}
    for candidate in fresh:
        kept.setdefault(candidate.problem_id, []).append(candidate)
    latest = [c for items in kept.values() for c in items[-remember:]] if remember else []
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
