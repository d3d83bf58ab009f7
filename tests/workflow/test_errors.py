"""Errors of a user: one clear message, an exit code, and no loss of existing files.

The first tests run the whole workflow and read its terminal; the others run the one stage that must notice, on a
finished run's files, through the same command line.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from extra_rl.models.policy import write_manifest
from extra_rl.tables import contracts, read_table, write_table
from extra_rl.tables.files import read_provenance
from stages.command import main
from tests.conftest import POLICY, Run, new_run

ITERATION = "results/mini/extra/s0/iteration_0001"
SHORT = 12
"""Maximum lines on the terminal about a failure, with those of Snakemake."""


def terminal_of_failure(run: Run, exit_code: int = 1) -> str:
    """Return the output of a run that must fail."""
    done = run.snakemake(check=False)
    said = done.stdout + done.stderr
    assert done.returncode == exit_code, said
    assert "Traceback" not in said
    assert 'File "' not in said
    return said


def lines_from(message: str, said: str) -> int:
    assert said.count(message) == 1, said
    return len(said[said.index(message) :].splitlines())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"itrations": 4}, "ConfigError: unknown key(s) itrations; known: advantage, arms, audit, choose_prefixes, "),
        ({"update": {"learning_rat": 1}}, "  update.learning_rat: unknown key (known here: aggregate, betas, "),
        ({"arms": {"extra": {"novelty": {"mesure": "zero"}}}}, "  arms.extra: novelty.mesure: unknown key"),
    ],
    ids=["top", "stage", "arm"],
)
def test_unknown_key(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    run = new_run(tmp_path, **changes)
    assert lines_from(message, terminal_of_failure(run, exit_code=2)) <= 2
    assert not run.results.exists()


def test_missing_model_directory(tmp_path: Path) -> None:
    run = new_run(tmp_path, model={"source": "/no/such/model"})
    said = terminal_of_failure(run)
    assert (
        lines_from(
            "prepare: ModelError: /no/such/model: there is no such directory. Check the path of the model.", said
        )
        <= SHORT
    )
    assert list(run.results.rglob("*.parquet")) == []


def test_nan_in_the_policy_loses_no_existing_file(tmp_path: Path) -> None:
    """The problems stay; the failed stage leaves no file, and refuses the model before anything is sampled."""
    broken = with_overflowing_weights(tmp_path / "broken")
    run = new_run(tmp_path / "run", model={"source": str(broken)})
    said = terminal_of_failure(run)
    message = f"NumericalError: the policy {broken} gives logprobs that are not finite"
    assert message in said
    assert len(said[said.index(message) :].splitlines()) <= SHORT
    made = {str(path.relative_to(run.results)) for path in run.results.rglob("*.parquet")}
    assert {"prepare/train.parquet", "prepare/held_out.parquet"} <= made
    assert not any("warm_start" in name or "generate" in name for name in made)
    assert not (run.results / "warm_start" / "policy" / "manifest.json").exists()


Fails = Callable[..., str]


@pytest.fixture
def fails(mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a stage again as it ran for `file`, with other inputs or settings; return the message of the error."""
    monkeypatch.chdir(mini_run.workdir)

    def run(stage: str, file: str, *settings: str, derived: str = "", **inputs: Path) -> str:
        out = tmp_path / "out"
        words = [f"{role}={path}" for role, path in inputs.items()]
        arguments = ["--rerun", f"{file}.parquet", "--to", str(out), "--set", *settings, "--input", *words]
        arguments += ["--derived", derived] if derived else []
        assert main([stage, *arguments]) == 2
        assert [path for path in out.rglob("*") if path.is_file()] == []
        said: str = capsys.readouterr().err
        assert said.startswith(f"{stage}: ")
        assert len(said.splitlines()) <= 4
        assert len(said) < 1000
        return said

    return run


def test_missing_problem_file(fails: Fails) -> None:
    said = fails("prepare", "results/mini/prepare/train", math_task("/no/such.parquet"), "model.source=new", BYTES)
    assert "InputError: /no/such.parquet: no such file of problems." in said


def test_wrong_column_of_a_problem_file(fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "problems.parquet"
    pl.DataFrame({"id": ["a"], "problem": ["1 + 1"], "solution": ["2"]}).write_parquet(path)
    said = fails("prepare", "results/mini/prepare/train", math_task(str(path)), "model.source=new", BYTES)
    assert f"InputError: {path}: no column answer (it has id, problem, solution)." in said


BYTES = "model.tokenizer=bytes"


def math_task(path: str) -> str:
    source = {"path": path, "problem": "problem", "answer": "answer", "id": "id"}
    return f"task={json.dumps({'name': 'math', 'train': source, 'benchmarks': {'test': source}})}"


@pytest.mark.parametrize("empty", ["train_per_level={}", "model.context_tokens=65"], ids=["no levels", "no room"])
def test_empty_problem_set(fails: Fails, empty: str) -> None:
    said = fails("prepare", "results/mini/prepare/train", empty)
    assert "ConfigError: the train set is empty" in said
    assert "model.context_tokens" in said


def test_prompts_longer_than_the_context_are_dropped_counted_and_listed(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    problems = pl.concat(pl.read_parquet(f"results/mini/prepare/{name}.parquet") for name in ("train", "held_out"))
    lengths = problems.select("problem_id", length=pl.col("prompt_tokens").list.len().cast(pl.Int64))
    room = int(lengths["length"].median())  # type: ignore[arg-type]
    too_long = lengths.filter(pl.col("length") > room)
    assert 0 < len(too_long) < len(problems)
    arguments = ["--rerun", "results/mini/prepare/train.parquet", "--to", str(tmp_path)]
    assert main(["prepare", *arguments, "--set", f"model.context_tokens={64 + room}"]) == 0
    assert f"{len(too_long)} dropped because their prompt is longer than {room} tokens" in capsys.readouterr().out
    dropped = read_table(tmp_path / "dropped.parquet", contracts.DroppedProblems)
    assert dict(dropped["problem_id", "prompt_length"].iter_rows()) == dict(too_long.iter_rows())
    assert all(f"longer than {room} tokens" in reason for reason in dropped["reason"])
    kept = pl.concat(pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("train", "held_out"))
    assert len(kept) == len(problems) - len(dropped)


def test_model_without_an_end_of_sequence_token(fails: Fails, tmp_path: Path) -> None:
    model = tmp_path / "endless"
    shutil.copytree(POLICY, model, ignore=shutil.ignore_patterns("manifest.json"))
    for name, keys in {
        "config.json": ["eos_token_id"],
        "generation_config.json": ["eos_token_id"],
        "tokenizer_config.json": ["eos_token"],
    }.items():
        values = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({key: value for key, value in values.items() if key not in keys}))
    said = fails("warm_start", "results/mini/warm_start/warm_start", f"model.source={model}")
    assert f"ModelError: {model}: the model has no end-of-sequence token" in said


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("generate", f"{ITERATION}/generate"),
        ("score_entropy", f"{ITERATION}/score_entropy_generate"),
        ("update", f"{ITERATION}/update"),
        ("evaluate", "results/mini/warm_start/evaluate"),
    ],
)
def test_a_diverged_policy_is_refused_by_each_stage(fails: Fails, tmp_path: Path, stage: str, file: str) -> None:
    policy = with_overflowing_weights(tmp_path / "broken") / "manifest.json"
    said = fails(stage, file, policy=policy)
    assert f"NumericalError: the policy {policy.parent} gives logprobs that are not finite" in said
    assert "lower update.learning_rate" in said


def test_nan_in_a_table(fails: Fails, tmp_path: Path) -> None:
    """The rows are shown, but not their thousands of tokens."""
    path = tmp_path / "score_entropy_generate.parquet"
    scores = pl.read_parquet(f"{ITERATION}/score_entropy_generate.parquet")
    scores.with_columns(pl.col("entropies").list.eval(pl.element() * float("nan"))).write_parquet(path)
    said = fails("choose_prefixes", f"{ITERATION}/choose_prefixes", score_entropy_generate=path)
    assert f"ContractError: {path}: table TokenScores breaks its contract:" in said
    assert "column entropies, rule " in said
    assert "'entropies': [nan, nan, nan, nan, nan, nan, nan, nan, '...']}" in said


def with_overflowing_weights(directory: Path) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(POLICY, directory)
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 3e38)  # finite, but no logit is
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_manifest(directory / "manifest.json", {"name": "broken"})
    return directory


def test_group_whose_members_belong_to_two_problems(fails: Fails, tmp_path: Path) -> None:
    rollouts = pl.read_parquet(f"{ITERATION}/generate.parquet")
    other = pl.read_parquet("results/mini/prepare/train.parquet").filter(
        pl.col("problem_id") != rollouts["problem_id"][0]
    )
    moved = rollouts.with_columns(
        problem_id=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(other["problem_id"][0])).otherwise("problem_id")
    )
    path = tmp_path / "generate.parquet"
    moved.write_parquet(path)
    said = fails("verify", f"{ITERATION}/verify_generate", rollouts=path)
    assert f"ContractError: {path}: table Rollouts breaks its contract:" in said
    assert "rule a_group_has_one_problem: 4 row(s), first [{'rollout_id': '" in said
    assert moved["rollout_id"][0] in said


def test_wrong_column_of_a_table(fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "generate.parquet"
    pl.read_parquet(f"{ITERATION}/generate.parquet").rename({"response": "respone"}).write_parquet(path)
    said = fails("verify", f"{ITERATION}/verify_generate", rollouts=path)
    assert f"ContractError: {path}: table Rollouts has no column(s) response." in said


@pytest.mark.parametrize("size", [0, 3, 1000, -1], ids=lambda size: f"{size} bytes")
def test_truncated_table(fails: Fails, tmp_path: Path, size: int) -> None:
    path = tmp_path / "generate.parquet"
    path.write_bytes(Path(f"{ITERATION}/generate.parquet").read_bytes()[:size])
    said = fails("verify", f"{ITERATION}/verify_generate", rollouts=path)
    assert f"InputError: {path}: not a readable Parquet file (" in said
    assert "Delete it and run again; `extra check RESULTS` prints the command" in said


def test_missing_table(fails: Fails, tmp_path: Path) -> None:
    said = fails("verify", f"{ITERATION}/verify_generate", rollouts=tmp_path / "generate.parquet")
    assert f"InputError: {tmp_path}/generate.parquet: no such file." in said


def test_table_of_another_version_of_an_input(fails: Fails, tmp_path: Path) -> None:
    """advantage is given rollouts, and verdicts on other rollouts of the same name."""
    source = Path(f"{ITERATION}/generate.parquet")
    path = tmp_path / "generate.parquet"
    longer = read_table(source, contracts.Rollouts).with_columns(response=pl.col("response") + " ;")
    write_table(longer, path, contracts.Rollouts, read_provenance(source))
    said = fails("advantage", f"{ITERATION}/advantage", generate=path)
    name = "extra/s0/i1/generate"
    assert f"was made from another version of {name} than {path} stands for, so advantage would mix the two" in said


def test_iterations_run_out_before_the_token_budget(fails: Fails) -> None:
    said = fails("compare", "results/mini/compare", derived="token_budgets={grpo: 1000000}")
    assert "ConfigError: grpo/s0 sampled " in said
    assert " of 1,000,000 tokens in 3 iterations" in said
    assert "Raise `iterations` and run again: what is there is kept." in said


def test_top_p_in_training(fails: Fails) -> None:
    said = fails("generate", f"{ITERATION}/generate", "sampling.top_p=0.9")
    assert "ConfigError: sampling.top_p < 1 or sampling.top_k > 0 cannot be trained on" in said


def test_a_missing_record(
    mini_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini_run.workdir)
    assert main(["verify", "--rerun", str(tmp_path / "verify.parquet"), "--to", str(tmp_path)]) == 2
    assert "InputError: " in capsys.readouterr().err
    assert main(["verify", "--rerun", f"{ITERATION}/verify_generate.parquet"]) == 2
    assert "ConfigError: --rerun needs --to DIR" in capsys.readouterr().err
    assert main(["verify"]) == 2
    assert (
        "ConfigError: name the work: --rerun FILE --to DIR, or --job, --input and --output" in capsys.readouterr().err
    )
