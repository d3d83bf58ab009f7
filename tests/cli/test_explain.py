"""extra explain: a rollout in the terminal."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from extra_cli.main import main
from extra_rl.report.facts import prompts, weighted_sum
from extra_rl.report.lookup import find
from extra_rl.report.terminal import lines_of
from extra_rl.tables import scan_iteration, scan_run
from tests.conftest import Run
from tests.report.by_hand import CHILD, HARD, add_replays, make_run

EXPECTED_OF_A_CHILD = """\
extra/s0/i1/i0.0/0
  regenerated, 4 tokens, finish reason stop, group extra/s0/i0/0
  problem p0
  right by rule by hand; extracted answer: 7; reference answer: 7

prompt
  3 4 :

response
  one = |cut| three <eos>

highest entropy
  token    3  2.25 nats  ' three'
  token    4  0.75 nats  ' <eos>'
  token    2  0.50 nats  ' ='
  token    1  0.12 nats  'one'

prefix
  the first 2 tokens of its parent; the continuation begins after |cut| above
  cut: before_peak; score 0.3125 nats (mean over its tokens); rank 1 of 2 candidates; when: next_iteration

parent
  extra/s0/i0/0/0          fresh       wrong, answer two, advantage -0.500

nearest
  extra/s0/i0/0/1          fresh       truncated, answer two, advantage -0.500
  novelty 0.3 before weight, centring and scaling

siblings (3)
  extra/s0/i0/0/0          fresh       wrong, answer two, advantage -0.500
  extra/s0/i0/0/1          fresh       truncated, answer two, advantage -0.500
  extra/s0/i1/i0.0/1       regenerated wrong, answer 8, advantage -0.500, cut from extra/s0/i0/0/0 at 2

reward to advantage
  iteration 1: group extra/s0/i0/0, mixed
    reward      1
    normalised  1.499997 = (1 - 0.25) / (0.5 + 1e-06)
    + bonus     0.030000 (weight 0.1, centring none, scale none, placement after_normalisation)
    = sum       1.529997
    trained, from token 3 on
"""


def test_the_lines_of_a_continuation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_run(tmp_path)
    assert main(["explain", CHILD, "--results", str(results)]) == 0
    said, _, rest = capsys.readouterr().out.partition("\nfiles\n")
    assert said == EXPECTED_OF_A_CHILD
    folder = results / "extra" / "s0" / "iteration_0001"
    names = ["generate", "verify_generate", "score_entropy_generate", "novelty", "advantage"]
    files = [folder / f"{name}.parquet" for name in names] + [folder.parent / "iteration_0000/choose_prefixes.parquet"]
    listed, _, query = rest.partition("\n\npolars\n")
    assert listed.split() == [str(file) for file in files]
    row = eval(query, {"scan_iteration": scan_iteration, "pl": pl})  # noqa: S307
    assert row["rollout_id"].to_list() == [CHILD]


@pytest.mark.parametrize(("parent", "whose"), [(CHILD, "its parent"), (None, "a worked solution")])
def test_a_replay_is_named_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parent: str | None, whose: str
) -> None:
    results = make_run(tmp_path)
    first, second = add_replays(results, "rw", parent=parent)
    assert main(["explain", first, "--results", str(results)]) == 0
    said = capsys.readouterr().out
    assert "\n  replayed, 4 tokens, finish reason stop, group extra/s0/i1/r0.0\n" in said
    assert f"  the first 2 tokens of {whose}, a stored trajectory; the continuation begins after |cut| above" in said
    assert f"\n  {second:<24} replayed    wrong" in said


def test_a_parent_of_a_joined_group_has_two_advantages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", f"{HARD}/0", "--results", str(make_run(tmp_path))])
    said = capsys.readouterr().out
    assert "none: a fresh rollout" in said
    assert "iteration 0: group extra/s0/i0/0, all_incorrect" in said
    assert "iteration 1, as parent of a joined group: group extra/s0/i0/0, mixed" in said
    assert "normalised  -0.499999 = (0 - 0.25) / (0.5 + 1e-06)" in said
    assert "not trained: no_signal" in said


def test_a_rollout_of_a_real_run(
    mini_run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is found below results/, and the lines agree with its tables."""
    monkeypatch.chdir(mini_run.workdir)
    rows = scan_run(mini_run.results).collect()
    for row in rows.filter(pl.col("arm") == "extra").sort("origin", "rollout_id")[[0, -1]].to_dicts():
        assert main(["explain", row["rollout_id"]]) == 0
        said = capsys.readouterr().out
        assert f"\n  {row['response']} <eos>\n" in said.replace(" |cut|", "") or row["finish_reason"] != "stop"
        assert f"\n  {prompts(mini_run.results, [row['problem_id']])[row['problem_id']]}\n" in said
        assert f"  {row['verdict']} by rule {row['rule']}" in said
        size = (rows["group_id"] == row["group_id"]).sum()
        assert f"siblings ({size - 1})" in said
        assert f"{max(row['entropies']):.2f} nats" in said.partition("highest entropy")[2].splitlines()[1]
        assert "\x1b" not in said


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ("nonsense", "'nonsense' is not the id of a rollout. Ids have the form {arm}/s{seed}/i{iteration}/{group}/{n}"),
        ("../s0/i0/0/0", "is not the id"),
        ("extra/s0/i0/0/0/..", "is not the id"),
        ("other/s0/i0/0/0", "has no arm other; its arms: extra."),
        ("extra/s3/i0/0/0", "has no seed s3; its seeds: s0."),
        ("extra/s0/i7/0/0", "has no rollouts of iteration 7; it has 2, from 0 to 1."),
        ("extra/s0/i0/9/0", "It has 6 rollouts of groups 0, 1, 2."),
        ("extra/s0/i1/i0.0/5", "Group i0.0 has extra/s0/i1/i0.0/0 to extra/s0/i1/i0.0/1."),
    ],
)
def test_an_unknown_id_is_an_error_with_what_exists(
    rollout: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", rollout, "--results", str(make_run(tmp_path))]) == 2
    assert said in capsys.readouterr().err


def test_the_run_is_found_below_results_unless_several_have_the_rollout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", CHILD]) == 2
    assert "results contains no run" in capsys.readouterr().err
    made = make_run(tmp_path)
    assert main(["explain", CHILD]) == 0
    capsys.readouterr()
    (tmp_path / "results" / "twin").symlink_to(made)
    assert main(["explain", CHILD]) == 2
    assert "Several runs have that iteration: results/made, results/twin" in capsys.readouterr().err
    assert main(["explain", CHILD, "--results", str(tmp_path / "gone")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_missing_tables_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_run(tmp_path)
    folder = results / "extra" / "s0" / "iteration_0001"
    for name in ("advantage", "verify_generate", "score_entropy_generate"):
        (folder / f"{name}.parquet").unlink()
    assert main(["explain", CHILD, "--results", str(results)]) == 0
    said = capsys.readouterr().out
    for line in ("not judged yet", "score_entropy has not run yet", "the stage advantage has not run yet"):
        assert line in said
    (folder / "novelty.parquet").write_bytes(b"PAR1 no table")
    assert main(["explain", CHILD, "--results", str(results)]) == 2
    assert "cannot be read" in capsys.readouterr().err


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\r"


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    words = ("one", f"\x1b[31m{HOSTILE.strip()}", "three", "=", ";")
    results = make_run(tmp_path, words, extracted=HOSTILE, response=HOSTILE, problem_id="p0")
    train = results / "prepare" / "train.parquet"
    pl.read_parquet(train).with_columns(prompt=pl.lit(HOSTILE)).write_parquet(train)
    found = find(f"{HARD}/0", results)
    for colour in (False, True):
        lines = lines_of(found, results, results / "extra/s0/iteration_0000", colour=colour)
        said = "\n".join(lines)
        assert said.count("\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{202e}evil") >= 4  # prompt, text, peaks, stored, answer
        own = {"\x1b[0m", "\x1b[30;48;5;230m", "\x1b[30;48;5;223m", "\x1b[30;48;5;221m"}
        own |= {"\x1b[30;48;5;215m", "\x1b[30;48;5;208m"}
        for sequence in own if colour else ():
            said = said.replace(sequence, "")
        assert not {letter for letter in said if ord(letter) < 32 or ord(letter) == 127} - {"\n"}
        assert "\u202e" not in said


def test_colour_follows_entropy_and_is_optional(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    found = find(f"{HARD}/0", results)
    folder = results / "extra" / "s0" / "iteration_0000"
    said = "\n".join(lines_of(found, results, folder, colour=True))
    assert "\x1b[30;48;5;230mone\x1b[0m\x1b[30;48;5;223m =\x1b[0m\x1b[30;48;5;208m two\x1b[0m" in said
    assert "\x1b" not in "\n".join(lines_of(found, results, folder, colour=False))


def test_named_numbers_are_shown_with_their_weighted_sum() -> None:
    numbers = {"close": 0.5, "correct": 1.0, "length": 18.0}
    weights = {"correct": 1.0, "close": 0.3, "length": -0.01, "format": 0.1}
    assert weighted_sum(numbers, weights) == (
        "1 * 1 (correct) + 0.3 * 0.5 (close) - 0.01 * 18 (length) + 0.1 * 0 (format)"
    )
    assert weighted_sum(numbers, {"length": -0.01}) == "- 0.01 * 18 (length)"
    assert weighted_sum(numbers, {}) == ""
