"""Contracts for the tables of `prepare`, `warm_start` and `select`."""

from __future__ import annotations

import dataframely as dy
import polars as pl

from extra_rl.tables import column

SPLITS = ["train", "tuning", "final"]
DROP_RULES = ["missing", "overlap", "duplicate", "contradictory", "unverifiable", "too_long", "example"]


class Problems(dy.Schema):
    """`prepare`: one row per verifiable problem, with the prompt exactly as the model receives it."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("its level or data set; the unit of evaluation")
    split = column.one_of(SPLITS, "train, or held out for tuning or for the final evaluation")
    canonical = column.text("key that equal problems share; splits are disjoint in it")
    problem = column.text("its text without suffix, examples and chat template, for the task's verifier")
    prompt = column.text("prompt text, examples and template applied")
    prompt_tokens = column.tokens("token ids of the prompt")
    answer = column.text("reference answer")
    solution = column.text(
        "a worked solution for supervised training; null: none, or generated when needed", nullable=True
    )
    metadata = column.text("JSON of further data for its verifier; null: none", nullable=True)
    relative_tolerance = column.tolerance("allowed error of a number, relative to the reference answer; 0: none")
    absolute_tolerance = column.tolerance("allowed error of a number; 0: none")

    @dy.rule()
    def prompt_is_not_empty(cls) -> pl.Expr:
        return cls.prompt_tokens.col.list.len() > 0


class DroppedProblems(dy.Schema):
    """`prepare`: one row per problem that was left out, with the reason."""

    problem_id = column.key("stable name of the problem")
    benchmark = column.text("its level or data set")
    split = column.one_of(SPLITS, "the split that it would have belonged to")
    rule = column.one_of(DROP_RULES, "rule that dropped it")
    reason = column.text("why it was dropped")
    other_problem_id = column.text(
        "benchmark problem that it overlaps, or training problem that it repeats", nullable=True
    )
    share = column.number("share of the benchmark problem's 8-grams that it contains", nullable=True, min=0.0, max=1.0)
    prompt_length = column.count("length of its prompt, if that was the reason", "tokens", nullable=True)
    problem = column.text("its text")
    answer = column.text("its reference answer")


class Sources(dy.Schema):
    """`prepare`: one row per source of problems of a real task."""

    name = dy.String(primary_key=True, metadata={"about": "training set or benchmark"})
    split = column.one_of(SPLITS, "split of its problems")
    path = column.text("local file", nullable=True)
    dataset = column.text("data set on the hub, or a local directory in the same format", nullable=True)
    subset = column.text("configuration of the data set", nullable=True)
    revision = column.text("requested revision; null: the newest", nullable=True)
    commit = column.text("commit of that revision; null: not from the hub, or offline", nullable=True)
    rows = column.count("rows of the source")
    expected_rows = column.count("expected number of rows; null: any", nullable=True)
    taken = column.count("rows that were used (`limit`)")
    digest = column.text("SHA-256 over id, text and reference answer of the rows that were used")


class WarmStartSteps(dy.Schema):
    """`warm_start`: the supervised loss of every step."""

    step = dy.Int64(primary_key=True, min=0, metadata={"about": "optimizer step"})
    loss = column.number("cross-entropy of the demonstrations' tokens", "nats per token")
    learning_rate = column.number("learning rate of this step")


class Selection(dy.Schema):
    """`select`: the problems of one iteration, in the order of the seed's stream; with rounds, also spare ones."""

    group_id = column.key("group that the rollouts of this prompt form")
    problem_id = column.text("problem")
    position = column.count("position in the seed's stream of problems; equal for every arm of a seed")
