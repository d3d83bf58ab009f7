"""What `prepare`, `warm_start` and `select` write."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column
from extra_rl.tables.contracts.words import DROP_RULES, SPLITS


class Problems(dy.Schema):
    """`prepare`: one verifiable problem a row; the prompt exactly as the model will read it."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("level or data set that it belongs to; the unit of evaluation")
    split = column.one_of(SPLITS, "train, or held out for tuning, or held out for the final figure")
    canonical = column.text("equal for problems that are the same problem; splits are disjoint by it")
    problem = column.text("its own text, without suffix, examples and chat template; what a task's verifier reads")
    prompt = column.text("prompt text, examples and template applied")
    prompt_tokens = column.tokens("the prompt as the policy reads it")
    answer = column.text("gold answer")
    solution = column.text("a worked solution, for a supervised start; null: none, or made when needed", nullable=True)
    metadata = column.text("JSON of what else its verifier needs; null: nothing", nullable=True)
    relative_tolerance = column.error("error allowed in a number, relative to the gold; 0: none")
    absolute_tolerance = column.error("error allowed in a number; 0: none")

    @dy.rule()
    def prompt_is_not_empty(cls) -> pl.Expr:
        return cls.prompt_tokens.col.list.len() > 0


class DroppedProblems(dy.Schema):
    """`prepare`: what was left out, and why."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("level or data set that it belongs to")
    split = column.one_of(SPLITS, "the split that it would have belonged to")
    rule = column.one_of(DROP_RULES, "what decided")
    reason = column.text("why it was dropped")
    other_problem_id = column.text(
        "benchmark problem that it overlaps, training problem that it repeats", nullable=True
    )
    share = column.number("share of the benchmark problem's 8-grams that it holds", nullable=True, min=0.0, max=1.0)
    prompt_length = column.count("length of its prompt, where that was the reason", "tokens", nullable=True)
    problem = column.text("its text")
    answer = column.text("its gold answer")


class Sources(dy.Schema):
    """`prepare`: where the problems of a real task came from; one row a source."""

    name = dy.String(primary_key=True, metadata={"about": "training set or benchmark"})
    split = column.one_of(SPLITS, "what its problems are for")
    path = column.text("local file", nullable=True)
    dataset = column.text("data set on the hub, or a local directory of its form", nullable=True)
    subset = column.text("configuration of the data set", nullable=True)
    revision = column.text("revision asked for; null: the newest", nullable=True)
    commit = column.text("commit that the revision stood for; null: not from the hub, or offline", nullable=True)
    rows = column.count("rows that it has")
    expected_rows = column.count("rows that it should have; null: any number", nullable=True)
    taken = column.count("rows that were taken (`limit`)")
    digest = column.text("SHA-256 over id, text and gold of the rows that were taken")


class WarmStartSteps(dy.Schema):
    """`warm_start`: the supervised loss as it fell."""

    step = dy.Int64(primary_key=True, min=0, metadata={"about": "optimizer step"})
    loss = column.number("cross-entropy of the demonstrations' tokens", "nats per token")
    learning_rate = column.number("learning rate of this step")


class Selection(dy.Schema):
    """`select`: the problems of one iteration, in the order of the seed's stream; with rounds, spare ones behind."""

    group_id = column.key("group that the rollouts of this prompt form")
    problem_id = column.text("problem")
    position = column.count("place in the seed's stream of problems; equal for every arm of a seed")
