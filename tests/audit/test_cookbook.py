"""Every recipe of docs/audit.md (and every query of README.md) runs on a finished run and says what it claims."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_cli.main import main
from extra_rl.tables import contracts, scan_iteration
from extra_rl.tables.files import write_table
from stages import advantage
from tests.conftest import ROOT, Run, copy_of
from tests.stages.rows import Row, frame, group, problem, run_stage, tables_of, write_tables

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MUST_BE_EMPTY = {
    "Was every rollout graded with its own problem's answer?",
    "Was the same text ever judged differently?",
}


def recipes() -> dict[str, str]:
    """heading -> code, of docs/audit.md."""
    _, *sections = re.split(r"^### ", (ROOT / "docs" / "audit.md").read_text(), flags=re.MULTILINE)
    return {section.partition("\n")[0]: "\n".join(BLOCK.findall(section)) for section in sections}


def preamble() -> str:
    return str(BLOCK.findall((ROOT / "docs" / "audit.md").read_text())[0])


def readme_blocks() -> list[str]:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    return [block for block in blocks if "scan_" in block or "pl." in block]


def answer(code: str, results: Path, path: Path) -> Any:
    """Runs the code and returns the value of its last line, or what that line prints."""
    names: dict[str, Any] = {"results": str(results), "path": str(path)}
    exec(preamble(), names)  # noqa: S102
    *body, last = ast.parse(code).body
    exec(compile(ast.Module(body, []), "docs/audit.md", "exec"), names)  # noqa: S102
    assert isinstance(last, ast.Expr), "a recipe ends in the frame that it is about"
    value = last.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
        (value,) = value.args
    return eval(compile(ast.Expression(value), "docs/audit.md", "eval"), names)  # noqa: S307


RECIPES = recipes()


def test_there_is_a_recipe_for_every_heading() -> None:
    assert len(RECIPES) >= 15
    assert all(RECIPES.values())
    assert set(RECIPES) >= MUST_BE_EMPTY


@pytest.fixture(scope="module")
def audited_run(mini_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished run, audited by a judge that finds everything right."""
    run = copy_of(mini_run, tmp_path_factory.mktemp("audited") / "run")
    judge = run.workdir / "yes.py"
    judge.write_text(
        "import json, sys\n"
        "for row in map(json.loads, sys.stdin): print(json.dumps({'id': row['id'], 'verdict': 'right'}))\n"
    )
    folders = map(str, sorted(run.results.glob("*/s*/iteration_*")))
    assert main(["audit", *folders, "--judge", shlex.join([sys.executable, str(judge)])]) == 0
    return run


@pytest.mark.parametrize("question", RECIPES)
def test_a_recipe_answers_on_a_finished_run(question: str, audited_run: Run) -> None:
    results = audited_run.results
    found = answer(RECIPES[question], results, results / "extra" / "s0" / "iteration_0001")
    assert isinstance(found, pl.DataFrame)
    assert found.is_empty() == (question in MUST_BE_EMPTY)


def test_a_recipe_is_short() -> None:
    for question, code in RECIPES.items():
        assert len([line for line in code.splitlines() if line]) <= 10, question
        assert max(map(len, code.splitlines())) <= 120, question


@pytest.mark.parametrize("block", readme_blocks())
def test_the_queries_of_the_readme_run(
    block: str, mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README names results/tiny and some iteration of it; here a small run stands in for it."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny").symlink_to(mini_run.results)
    monkeypatch.chdir(tmp_path)
    code = re.sub(r"iteration_\d{4}", "iteration_0001", block)
    found = answer(code, Path("results/tiny"), Path("results/tiny/extra/s0/iteration_0001"))
    assert isinstance(found, pl.DataFrame)
    assert not found.is_empty()


def test_useful_and_rescued_groups_of_the_levels_sum_to_those_of_the_iterations(mini_run: Run) -> None:
    rows = answer(RECIPES["How many useful and rescued groups does each level give?"], mini_run.results, Path())
    counts = rows.group_by("arm").agg(
        pl.col("tokens").sum(), *((pl.col(n) * pl.col("tokens") / 1000).sum() for n in ("useful", "rescued"))
    )
    files = sorted(mini_run.results.glob("*/s*/iteration_*/summarize.parquet"))
    summaries = pl.concat([pl.read_parquet(file) for file in files])
    totals = summaries.group_by("arm").agg(pl.col("sampled_tokens", "mixed", "rescued_groups").sum())
    for arm in ("grpo", "extra"):
        (found,), (expected,) = counts.filter(arm=arm).rows(), totals.filter(arm=arm).rows()
        assert found[1:] == pytest.approx(expected[1:])
    assert totals["rescued_groups"].sum() > 0


# What the recipes say of a run that was made by hand.

PARENTS = "extra/s0/i0/0"
PREFIX = {
    "prefix_id": f"{PARENTS}/0@2",
    "group_id": PARENTS,
    "problem_id": "p0",
    "parent_rollout_id": f"{PARENTS}/0",
    "iteration": 0,
    "prompt_tokens": [1, 5],
    "prefix_tokens": [10, 11],
    "prefix_logprobs": [-1.0, -1.0],
    "cut_reason": "before_peak",
    "score": 0.25,
    "smoothed_score": None,
    "effective_neighbours": None,
    "rank": 0,
    "chosen": True,
    "continuations": 2,
    "when": "next_iteration",
}


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """A run of two iterations: p0 fails and is then rescued from a prefix, p1 is mixed, p2 never solved."""
    entropies = (0.1, 0.4, 2.0, 0.5)
    long = {"response_tokens": (10, 11, 12, 2), "entropies": entropies}
    fails = group("wt", group_id=PARENTS, extracted="8", response="a", **long)
    mixed = group("rw", group_id="extra/s0/i0/1", problem_id="p1", extracted="5", response="b", gold="9")
    mixed[0] = Row(**{**mixed[0].__dict__, "response": "c", "nearest": mixed[1].rollout_id, "novelty": 0.5})
    never = group("ww", group_id="extra/s0/i0/2", problem_id="p2", extracted="3", response="d")
    never[1] = Row(**{**never[1].__dict__, "nearest": never[0].rollout_id, "extracted": "4", "response": "e"})
    cut_off = {"verdict": "truncated", "finish_reason": "length"}
    fails[1] = Row(**{**fails[1].__dict__, **cut_off, "response": "f"})
    first = [*fails, *mixed, *never]
    children = [
        fails[0].continued("extra/s0/i1/i0.0/0", 2, verdict="right", extracted="7", response="g"),
        fails[0].continued("extra/s0/i1/i0.0/1", 2, verdict="wrong", extracted="8", response="h", policy_logprob=-0.5),
    ]
    train = [problem("p0"), problem("p1", "4 5 :", "9"), problem("p2", benchmark="L2")]
    write_table(frame(contracts.Problems, train), tmp_path / "prepare" / "train.parquet", contracts.Problems, {})
    previous: dict[str, pl.DataFrame] = {}
    for iteration, rows in enumerate((first, children)):
        folder = tmp_path / "extra" / "s0" / f"iteration_{iteration:04d}"
        tables = tables_of(rows) | previous
        tables |= run_stage(advantage, tables, {"weight": 1.0, "group": "joined"}, iteration=iteration)
        write_tables(folder, tables)
        prefixes = frame(contracts.Prefixes, [] if iteration else [PREFIX])
        write_table(prefixes, folder / "choose_prefixes.parquet", contracts.Prefixes, {})
        previous = tables_of(rows, prefix="previous_")
    return tmp_path


def asked(question: str, results: Path, iteration: int = 0) -> list[dict[str, Any]]:
    (code,) = (code for heading, code in RECIPES.items() if heading.startswith(question))
    rows: pl.DataFrame = answer(code, results, results / "extra" / "s0" / f"iteration_{iteration:04d}")
    return rows.to_dicts()


def test_only_the_problem_that_no_rollout_solved_is_named(by_hand: Path) -> None:
    (row,) = asked("Which problems never", by_hand)
    assert (row["problem_id"], row["rollouts"], row["right"], row["verdicts"]) == ("p2", 2, 0, ["wrong"])


def test_wrong_answers_come_by_frequency(by_hand: Path) -> None:
    rows = asked("Which wrong answers", by_hand)
    assert [(row["problem_id"], row["extracted"], row["times"]) for row in rows[:2]] == [("p0", "8", 2), ("p1", "5", 1)]
    assert [row["share"] for row in rows if row["problem_id"] == "p2"] == [0.5, 0.5]


def test_truncation_is_told_by_level_and_prefix(by_hand: Path) -> None:
    rows = {(row["benchmark"], row["prefix_from"]): row for row in asked("Where does truncation", by_hand)}
    # prefixes of 2 tokens count as 0 to 7: of six rollouts of L1 one was cut off
    assert rows["L1", 0]["cut_off"] == pytest.approx(1 / 6)
    assert rows["L2", 0]["cut_off"] == 0.0
    assert rows["L2", 0]["length"] == 3.0


def test_the_prefix_that_rescued_comes_with_its_score(by_hand: Path) -> None:
    (row,) = asked("Which prefixes rescued", by_hand)
    assert (row["prefix_id"], row["continuations"], row["right"], row["length"]) == (f"{PARENTS}/0@2", 2, 1, 2)
    assert row["score"] == 0.25


def test_replays_are_neither_tried_nor_rescued_and_have_no_parent_to_compare_with(
    by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ("Which prefixes rescued", "How uncertain", "Did a continuation")
    before = [asked(question, by_hand) for question in questions]
    replayed = "extra/s0/i2/r1.0"
    stored = Row("extra/s0/i1/i0.0/0", group_id=PARENTS, response_tokens=(10, 11, 12, 2), verdict="right")
    rows = [
        stored.continued(f"{replayed}/{n}", 3, group_id=replayed, verdict=verdict)
        for n, verdict in enumerate(("right", "wrong"))
    ]
    tables = tables_of(rows)
    tables |= run_stage(advantage, tables, {"group": "joined"}, iteration=2)
    write_tables(by_hand / "extra" / "s0" / "iteration_0002", tables)
    assert [asked(question, by_hand) for question in questions] == before
    levels = asked("How many useful and rescued", by_hand)
    assert sum(row["rescued"] * row["tokens"] for row in levels) == pytest.approx(1000)
    (query,) = (block for block in readme_blocks() if "rescued" in block)
    (tmp_path / "elsewhere" / "results").mkdir(parents=True)
    (tmp_path / "elsewhere" / "results" / "tiny").symlink_to(by_hand)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert answer(query, Path(), Path()).rows() == [(1, 1, 1)]


def test_the_entropy_at_the_cut_is_that_of_the_first_token_thrown_away(by_hand: Path) -> None:
    for row in asked("How uncertain", by_hand):
        assert row["at_cut"] == pytest.approx(2.0)
        assert row["before"] == pytest.approx(0.25)


def test_verdicts_before_and_after_a_continuation(by_hand: Path) -> None:
    rows = {(row["before"], row["after"]): row for row in asked("Did a continuation", by_hand)}
    assert {key: (row["rollouts"], row["same_answer"]) for key, row in rows.items()} == {
        ("wrong", "right"): (1, 0),
        ("wrong", "wrong"): (1, 1),
    }


def test_the_bonus_share_is_weighted_by_length_in_every_type_of_group(by_hand: Path) -> None:
    rows = {row["group_type"]: row["bonus_share"] for row in asked("How much of the advantage", by_hand)}
    # iteration 0: p1 is mixed, +-sqrt(1/2) over 3 tokens each and one bonus of 1/2
    # iteration 1: p0 with its parents is mixed, of which the two children are read: 3/2 and -1/2 over 4 tokens
    bonus, reward = 3 * 0.5, 2 * 3 * 0.5**0.5 + 4 * 1.5 + 4 * 0.5
    assert rows == {"all_incorrect": 0.0, "mixed": pytest.approx(bonus / (bonus + reward), abs=1e-5)}


def test_an_exact_copy_is_one_whose_neighbour_has_its_tokens(by_hand: Path) -> None:
    rows = {row["problem_id"]: row for row in asked("Which rollouts are exact copies", by_hand)}
    assert {name: (row["rollouts"], row["copies"]) for name, row in rows.items()} == {"p1": (1, 1), "p2": (1, 1)}


def test_the_price_of_a_right_rollout_is_paid_in_sampled_tokens(by_hand: Path) -> None:
    rows = {(row["benchmark"], row["origin"]): row for row in asked("What does a right rollout cost", by_hand)}
    assert rows["L1", "fresh"]["tokens_per_right"] == (2 * 4 + 2 * 3) / 1
    assert rows["L1", "regenerated"]["tokens_per_right"] == 2 * 2 / 1
    assert rows["L2", "fresh"]["tokens_per_right"] == float("inf")


def test_the_gap_of_sampler_and_trainer_leaves_continuations_out(by_hand: Path) -> None:
    (row,) = asked("Do sampler and trainer", by_hand)
    assert (row["tokens"], row["gap"], row["worst"], row["ratio"]) == (2 * 4 + 4 * 3, 0.0, 0.0, 1.0)
    (row,) = asked("Do sampler and trainer", by_hand, iteration=1)
    assert row["tokens"] == 0


def test_rollouts_that_were_not_scored_are_left_out(by_hand: Path) -> None:
    """As with score_entropy.rows: signal. Of iteration 0 only the mixed group of p1 is scored: two times 3 tokens."""
    scored = pl.col("rollout_id").str.starts_with("extra/s0/i0/1/")
    lists = ("policy_logprobs", "entropies")
    change(by_hand, "score_entropy_generate", **{name: pl.when(scored).then(name) for name in lists})
    (row,) = asked("Do sampler and trainer", by_hand)
    assert (row["tokens"], row["ratio"]) == (6, 1.0)
    assert len(asked("How does one rollout look", by_hand)) == 3
    (row,) = asked("How does entropy run", by_hand)
    assert row["tokens"] == 6


def test_entropy_by_position(by_hand: Path) -> None:
    (row,) = asked("How does entropy run", by_hand)
    assert row["tokens"] == 20
    assert row["mean"] == pytest.approx((2 * 3.0 + 12 * 0.5) / 20)


def test_a_foreign_answer_is_found(by_hand: Path) -> None:
    assert asked("Was every rollout graded", by_hand) == []
    change(by_hand, "verify_generate", gold=pl.lit("9"))
    found = asked("Was every rollout graded", by_hand)
    assert {(row["problem_id"], row["gold"], row["answer"]) for row in found} == {("p0", "9", "7"), ("p2", "9", "7")}


def test_a_verdict_that_changes_with_the_same_text_is_found(by_hand: Path) -> None:
    assert asked("Was the same text", by_hand) == []
    change(by_hand, "generate", response=pl.lit("the same"))
    found = asked("Was the same text", by_hand)
    assert {(row["problem_id"], *sorted(row["verdict"])) for row in found} == {("p1", "right", "wrong")}


def change(results: Path, table: str, **columns: pl.Expr) -> None:
    """Writes columns of a table of iteration 0 anew."""
    file = results / "extra" / "s0" / "iteration_0000" / f"{table}.parquet"
    pl.read_parquet(file).with_columns(**columns).write_parquet(file)


def test_the_shares_of_the_cookbook_are_those_of_the_summary(mini_run: Run) -> None:
    """The table `summarize` and the recipe count the same thing in two ways."""
    folder = mini_run.results / "extra" / "s0" / "iteration_0000"
    rows = scan_iteration(folder).collect()
    tokens = rows["response_tokens"].list.len()
    bonus, reward = (float((tokens * rows[part].abs()).sum()) for part in ("bonus", "normalised"))
    summary = pl.read_parquet(folder / "summarize.parquet").to_dicts()[0]
    assert summary["bonus_share"] == pytest.approx(bonus / (bonus + reward), rel=1e-5)
    assert summary["rollouts"] == len(rows)
    assert summary["truncated"] == (rows["finish_reason"] == "length").sum()
