"""Whether a score of a prefix predicts that its continuations are correct: areas under the ROC curve (AUC).

Two kinds of evidence show that a prefix is good: `sound`, a replay of its steps, where the task can do that;
`rescued`, the continuations that the run sampled. Source: our decision, docs/decisions/0014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from scipy.stats import mannwhitneyu

from extra_research import contracts
from extra_rl.errors import InputError
from extra_rl.regeneration.candidates import tokenizer_of

SCORES = ("mean_entropy", "peak_entropy", "mean_surprisal", "peak_surprisal", "mean_excess")
"""Of the tokens before a cut; `excess` is surprisal minus entropy. Lower scores should mean better prefixes."""

Replay = Callable[[str, str], bool]
"""(problem_id, text of a prefix) -> whether a correct response may begin like this."""


def scored_prefixes(rollouts: pl.DataFrame) -> pl.DataFrame:
    """Return (rollout_id, problem_id, prefix_length, last_token, SCORES) of every proper prefix of every rollout.

    rollouts: `generate` with its token scores. Raises InputError for a rollout that was not scored.
    """
    unscored = rollouts.filter(pl.col("entropies").is_null())["rollout_id"]
    if len(unscored):
        raise InputError(
            f"{len(unscored)} of {len(rollouts)} failed rollouts have no entropies, first {unscored[0]}: the run was "
            "made with score_entropy.rows: signal or choose_prefixes.scores_from: sampler. Name iterations that score "
            "all rollouts before prefixes are chosen."
        )
    columns = ["response_tokens", "entropies", "policy_logprobs"]
    tokens = (
        rollouts.filter(pl.col("response_tokens").list.len() > 0)
        .select("rollout_id", "problem_id", *columns)
        .explode(columns)
        .with_columns(
            surprisal=-pl.col("policy_logprobs").cast(pl.Float64), entropy=pl.col("entropies").cast(pl.Float64)
        )
    )
    prefix_length = pl.int_range(1, pl.len() + 1).over("rollout_id")
    mean = {name: pl.col(name).cum_sum().over("rollout_id") / prefix_length for name in ("entropy", "surprisal")}
    peak = {name: pl.col(name).cum_max().over("rollout_id") for name in ("entropy", "surprisal")}
    whole = pl.col("prefix_length") == pl.len().over("rollout_id")
    return tokens.select(
        "rollout_id",
        "problem_id",
        prefix_length=prefix_length,
        last_token="response_tokens",
        mean_entropy=mean["entropy"],
        peak_entropy=peak["entropy"],
        mean_surprisal=mean["surprisal"],
        peak_surprisal=peak["surprisal"],
        mean_excess=mean["surprisal"] - mean["entropy"],
    ).filter(~whole)


def with_steps(prefixes: pl.DataFrame) -> pl.DataFrame:
    """Return prefixes that end with a step, with `steps`: how many steps they contain."""
    return prefixes.with_columns(steps=pl.int_range(1, pl.len() + 1).over("rollout_id"))


def texts_of(prefixes: pl.DataFrame, rollouts: pl.DataFrame, policy_file: Path) -> list[str]:
    """Return the texts of prefixes (rollout_id, prefix_length) of rollouts, without special tokens, order kept."""
    tokens = prefixes.join(
        rollouts.select("rollout_id", "response_tokens"), on="rollout_id", how="left", maintain_order="left"
    ).select(pl.col("response_tokens").list.head("prefix_length"))
    lists = tokens["response_tokens"].to_list()
    texts: list[str] = tokenizer_of(policy_file).decode_batch(lists, skip_special_tokens=True)
    return texts


def sound_prefixes(prefixes: pl.DataFrame, texts: Sequence[str], replay: Replay) -> pl.DataFrame:
    """Return prefixes with `good`: whether a correct response may begin like this. texts: of the prefixes, in order."""
    good = [replay(problem, text) for problem, text in zip(prefixes["problem_id"], texts, strict=True)]
    return prefixes.with_columns(good=pl.Series(good, dtype=pl.Boolean))


def continued_prefixes(prefixes: pl.DataFrame, chosen: pl.DataFrame, continued: pl.DataFrame) -> pl.DataFrame:
    """Return the prefixes that the run continued, with `good`: whether a continuation was correct.

    chosen: `choose_prefixes`; continued: (prefix_id, continuations, right). Prefixes cut in an earlier iteration are
    left out, because their scores are in that iteration's files.
    """
    known = chosen.filter("chosen").join(continued, on="prefix_id").filter(pl.col("continuations") > 0)
    places = known.select(
        rollout_id="parent_rollout_id",
        prefix_length=pl.col("prefix_tokens").list.len().cast(prefixes.schema["prefix_length"]),
        good=pl.col("right") > 0,
    )
    return prefixes.join(places, on=["rollout_id", "prefix_length"], maintain_order="left")


def signal(prefixes: pl.DataFrame) -> dict[str, object]:
    """Return counts and the AUC of each score: the probability that a good prefix scores lower than one that is not.

    Ties count half. None where all prefixes are good or none is.
    """
    good, bad = prefixes.filter("good"), prefixes.filter(~pl.col("good"))
    pairs = len(good) * len(bad)
    areas = {name: float(mannwhitneyu(bad[name], good[name]).statistic) / pairs if pairs else None for name in SCORES}
    return {"prefixes": len(prefixes), "good": len(good), **areas}


def signal_table(sound: pl.DataFrame, continued: pl.DataFrame) -> pl.DataFrame:
    """Return `PrefixSignal`: soundness by the number of steps, which decides most of it, then rescues."""
    counts = sorted(sound["steps"].unique())
    rows = [{"witness": "sound", "steps": steps, **signal(sound.filter(steps=steps))} for steps in counts]
    rows.append({"witness": "rescued", "steps": 0, **signal(continued)})
    return contracts.PrefixSignal.cast(pl.DataFrame(rows, schema=contracts.PrefixSignal.create_empty().schema))
