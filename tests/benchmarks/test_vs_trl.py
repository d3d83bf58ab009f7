"""The logic of benchmarks/vs_trl*.py: what a step is, what it cost, and that its configuration is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from benchmarks import vs_trl_model
from benchmarks.vs_trl import middle_of, turn_of, words
from benchmarks.vs_trl_ours import configuration, step_of
from benchmarks.vs_trl_peer import boxed, replayed
from benchmarks.vs_trl_watch import Watch
from extra_rl.models.tokenizers import byte_level
from stages.experiment import experiment_of


def test_cpu_seconds_lie_on_a_line_between_two_looks() -> None:
    watch = Watch(times=[10.0, 12.0, 13.0], cpu_s=[1.0, 2.0, 2.5])
    assert [watch.cpu_at(t) for t in (9.0, 10.5, 12.0, 12.5, 20.0)] == [1.0, 1.25, 2.0, 2.25, 2.5]


ORPHAN = """
import subprocess, time
from benchmarks.vs_trl_watch import Watch
burn = "import time; end = time.process_time() + 1.0\\nwhile time.process_time() < end: pass"
with Watch() as watch:
    # The parent ends at once and waits for nobody.
    subprocess.run([{python!r}, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {{burn!r}}])"])
    while watch.cpu_s[-1:] < [1.0] and time.monotonic() < {deadline}:
        time.sleep(0.1)
    time.sleep(0.5)
print(watch.cpu_s[-1], watch.peak_mb)
"""


def test_a_process_without_a_parent_counts() -> None:
    import time

    program = ORPHAN.format(python=sys.executable, deadline=time.monotonic() + 60)
    cpu_s, peak_mb = map(
        float,
        subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout.split(),
    )
    assert 1.0 <= cpu_s < 2.0
    assert peak_mb > 1


def iteration(folder: Path, stages: dict[str, tuple[str, float, float]]) -> Path:
    folder.mkdir()
    for stage, (started, wall, cpu) in stages.items():
        record = {"started": f"2026-01-01T00:00:{started}+00:00", "wall_s": wall, "cpu_s": cpu, "peak_memory_mb": 100.0}
        (folder / f"{stage}.run.json").write_text(json.dumps(record))
    pl.DataFrame({"response_tokens": [[1, 2], [3]]}).write_parquet(folder / "generate.parquet")
    pl.DataFrame({"reward": [1.0, 0.0]}).write_parquet(folder / "verify_generate.parquet")
    return folder


def test_a_step_goes_from_end_to_end_and_what_no_stage_recorded_is_between(tmp_path: Path) -> None:
    before = iteration(tmp_path / "0", {"summarize": ("01.000", 1.0, 0.5)})
    after = iteration(
        tmp_path / "1",
        {
            "generate": ("03.000", 2.0, 1.5),
            "verify_generate": ("05.500", 0.5, 0.25),
            "update": ("06.500", 3.0, 2.0),
            "summarize": ("10.000", 0.5, 0.5),
        },
    )
    end = 1767225600.0  # 2026-01-01, midnight
    step = step_of(before, after, Watch(times=[end, end + 12], cpu_s=[0.0, 12.0]))
    assert step["wall_s"] == pytest.approx(10.5 - 2.0)
    assert step["cpu_s"] == pytest.approx(8.5)
    assert step["parts"]["sampling"] == (2.0, 1.5)
    assert step["parts"]["scoring"] == (0.5, 0.25)
    assert step["parts"]["update"] == (3.0, 2.0)
    assert step["parts"]["other"] == (0.5, 0.5)
    assert step["parts"]["between"] == pytest.approx((8.5 - 6.0, 8.5 - 4.25))
    assert (step["tokens"], step["reward"]) == (3, 0.5)


def test_the_rate_is_the_median_of_the_steps_rates() -> None:
    steps = [{"wall_s": 1.0, "cpu_s": c, "tokens": t, "reward": 0.5} for c, t in ((1.0, 10), (2.0, 60), (4.0, 80))]
    assert middle_of(steps, 7.0)["rate"] == 20
    assert middle_of(steps, 7.0)["cpu_s"] == 2.0


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_of_sequence_is_a_token_of_the_model_or_beyond_it(ends: bool) -> None:
    found = words(ends, 128)
    assert len(set(found)) == len(found) == (128 if ends else 129)
    assert (found.index("<eos>") < 128) == ends


def test_the_configuration_is_valid_and_asks_for_one_update_a_batch(tmp_path: Path) -> None:
    asked = turn_of(str(tmp_path), words(True, 128), prompts=2, rows=16, steps=3, seed=1)
    problems, held_out = tmp_path / "problems.jsonl", tmp_path / "held_out.jsonl"
    experiment = experiment_of(configuration(asked, problems, held_out))
    update = experiment.arms["grpo"]["update"]
    assert (update["minibatches"], update["epochs"], update["importance_cap"], update["dual_clip"]) == (
        1,
        1,
        None,
        None,
    )
    assert experiment.arms["grpo"]["generate"]["group_size"] == asked["group"] == 8
    assert experiment.run.iterations == 3
    texts = [text for step in asked["prompts"] for text, _ in step]
    assert len(set(texts)) == 6
    assert all(8 <= len(text.split()) <= 32 for text in texts)


def test_the_last_box_is_the_answer() -> None:
    rewards = boxed({"boxes": {"0": [7], "1": [8, 9]}})
    assert rewards([[8, 7, 1], [7, 9], [1]], answer=["0", "1", "0"], prompt=["", "", ""]) == [1.0, 1.0, 0.0]


def test_arithmetic_is_judged_as_our_stages_judge_it(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.save_pretrained(tmp_path)
    ends = vs_trl_model.ends_of(tmp_path, ["\n"])
    assert ends == sorted({*tokenizer("\n")["input_ids"], tokenizer.eos_token_id})  # a token is a byte here
    texts = ["8 + 2 = 10 ; 10 - 9 = 1\n", "8 + 2 = 10 ; 10 - 9 = 1", "8 + 2 = 10\n", "8 + 2 = 11 ; 11 - 9 = 2\n"]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rewards = replayed({"ends": ends}, tokenizer)
    assert rewards(ids, problem=["8 + 2 - 9 :"] * 4, answer=["1"] * 4) == [1.0, 1.0, 0.0, 0.0]


def test_the_model_case_is_the_file_of_smollm2_with_one_update_a_batch(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.save_pretrained(tmp_path)
    start = experiment_of(vs_trl_model.configuration(str(tmp_path), 2)).common["warm_start"]
    assert (start["stop_at"], start["batch"], start["learning_rate"], start["model"]["source"]) == (
        10,
        16,
        3e-5,
        str(tmp_path),
    )
    asked = vs_trl_model.asked_of(tmp_path, threads=2, rows=16, seed=1)
    assert (asked["group"], asked["limit"], asked["learning_rate"]) == (16, 56, 1e-5)
    experiment = experiment_of(vs_trl_model.turn_configuration(asked, 3))
    assert experiment.common["warm_start"]["steps"] == 0
    assert (experiment.run.iterations, experiment.run.seeds, experiment.run.granularity) == (3, [1], "iteration")
    arm = experiment.arms["grpo"]
    assert (arm["update"]["minibatches"], arm["update"]["signal_only"]) == (1, True)
    assert arm["select"]["prompts"] == 16
    assert arm["select"]["compute_budget"] is None
    assert arm["select"]["level_weights"] == {f"L{level}": 1 for level in range(1, 7)}
    assert arm["generate"]["compute"]["threads"] == 2


def test_trl_is_given_our_prompts_in_our_order(tmp_path: Path) -> None:
    config = {"name": "vs_trl", "seeds": [1]}
    folder = tmp_path / "results" / "vs_trl"
    problems = {"problem_id": ["a", "b", "c"], "prompt": ["Pa", "Pb", "Pc"], "problem": ["a :", "b :", "c :"]}
    (folder / "prepare").mkdir(parents=True)
    pl.DataFrame({**problems, "answer": ["1", "2", "3"]}).write_parquet(folder / "prepare" / "train.parquet")
    for number, chosen in enumerate((["c", "a"], ["b", "c"])):
        iteration = folder / "grpo" / "s1" / f"iteration_{number:04d}"
        iteration.mkdir(parents=True)
        pl.DataFrame({"problem_id": chosen}).write_parquet(iteration / "select.parquet")
    first, second = vs_trl_model.prompts_of(config, tmp_path)
    assert first == [("Pc", "3", "c :"), ("Pa", "1", "a :")]
    assert second == [("Pb", "2", "b :"), ("Pc", "3", "c :")]


def test_a_start_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    manifest = tmp_path / vs_trl_model.POLICY
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert vs_trl_model.make_start(tmp_path / "no-model", tmp_path, 1) == manifest.parent
