"""How many different right solutions a policy finds for a problem."""

from __future__ import annotations

import polars as pl


def distinct_solutions(evaluate: pl.DataFrame) -> pl.DataFrame:
    """(benchmark, problem_id, right, distinct) of an evaluation table, every problem a row, in the table's order.

    right: samples judged right. distinct: different texts among these, each run of white space one space and none at
    the ends. Texts and not, say, the multiset of a signed sum's steps: a text means the same for every task, and the
    order of steps is a part of a solution; so two orders of the same steps count as two. Source: our decision.
    """
    right = pl.col("verdict").cast(pl.String) == "right"
    text = pl.col("response").str.replace_all(r"\s+", " ").str.strip_chars()
    return evaluate.group_by("benchmark", "problem_id", maintain_order=True).agg(
        right=right.sum().cast(pl.Int64), distinct=text.filter(right).n_unique().cast(pl.Int64)
    )
