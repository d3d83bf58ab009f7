"""update: which tokens the loss counts, what it divides by, and when no step is taken at all.

Old logprobs are the policy's own, so every ratio is 1 and the loss before the first step is known by hand:
-(sum of advantage x loss tokens) / denominator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from transformers import modeling_utils

from extra_rl.errors import InputError, NumericalError
from extra_rl.policy import load_model, load_policy, resolve, save_policy
from extra_rl.removed import write_removed
from extra_rl.retention import ANNOUNCED, Retention
from extra_rl.tables import contracts
from stages import score_entropy, update
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, run_stage, tables_of

INITIAL = POLICY / "manifest.json"
PROMPT = (1, 6, 7, 107)  # `<bos> 3 4 :`
RIGHT = Row("right", prompt_tokens=PROMPT, response_tokens=(6, 103, 7, 105, 10, 2))
WRONG = Row("wrong", prompt_tokens=PROMPT, response_tokens=(7, 103, 6, 105, 11, 8, 9, 2))
EQUAL = Row("equal", group_id="extra/s0/i0/1", prompt_tokens=PROMPT, response_tokens=(5, 2))
CONTINUED = WRONG.continued("continued", 3)
ONE_STEP: dict[str, Any] = {"minibatches": 1}


def advantages(values: Mapping[str, float], masked: Mapping[str, int] | None = None) -> pl.DataFrame:
    """An advantage table. masked: rollout -> tokens at its start without loss."""
    return frame(
        contracts.Advantages,
        [
            {
                "rollout_id": name,
                "advantage_group": "extra/s0/i0/0",
                "group_type": "mixed",
                "reward": 0.0,
                "normalised": value,
                "bonus": 0.0,
                "advantage": value,
                "carried": False,
                "trained": "trained" if value else "no_signal",
                "loss_start": (masked or {}).get(name, 0),
            }
            for name, value in values.items()
        ],
    )


def tables(rows: list[Row], values: Mapping[str, float], masked: Mapping[str, int] | None = None, **config: Any) -> Any:
    """The tables of an iteration whose sampler and trainer agree to the last bit."""
    found = tables_of(rows)
    scores = run_stage(score_entropy, {"rollouts": found["generate"]}, config, paths={"policy": INITIAL})
    sampled = found["generate"].drop("sampler_logprobs").join(scores["score_entropy"], on="rollout_id")
    found["generate"] = sampled.rename({"policy_logprobs": "sampler_logprobs"}).select(found["generate"].columns)
    return found | {"score_entropy_generate": scores["score_entropy"], "advantage": advantages(values, masked)}


def updated(
    found: dict[str, pl.DataFrame], folder: Path, policy: Path = INITIAL, **config: Any
) -> tuple[pl.DataFrame, Path]:
    """The metrics and the next policy's manifest."""
    manifest = folder / "policy" / "manifest.json"
    made = run_stage(
        update,
        found,
        {**ONE_STEP, **config},
        paths={"policy": policy, "initial": INITIAL},
        outputs={"update": folder / "update.parquet", "next_policy": manifest},
    )
    return made["update"], manifest


def one_step(found: dict[str, pl.DataFrame], folder: Path, **config: Any) -> dict[str, Any]:
    (row,) = updated(found, folder, **config)[0].to_dicts()
    return row


def shifted(found: dict[str, pl.DataFrame], table: str, column: str, tokens: int, by: float) -> dict[str, pl.DataFrame]:
    """The tables with the first tokens' values of the row `continued` changed."""
    values = found[table][column].to_list()
    for row, name in enumerate(found[table]["rollout_id"]):
        if name == "continued":
            values[row] = [v + by if n < tokens else v for n, v in enumerate(values[row])]
    return found | {table: found[table].with_columns(pl.Series(column, values, pl.List(pl.Float32)))}


def test_the_loss_is_a_token_mean_over_the_whole_batch_rows_without_signal_included(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    row = one_step(found, tmp_path)
    assert row["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / 16, abs=1e-6)
    assert (row["rows"], row["signal_rows"], row["loss_tokens"]) == (3, 2, 16)
    assert row["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert (row["importance_mean"], row["importance_max"]) == pytest.approx((1.0, 1.0))
    only = one_step(found, tmp_path, signal_only=True)
    assert only["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / 14, abs=1e-6)
    assert (only["rows"], only["loss_tokens"]) == (2, 14)


def test_signal_only_leaves_nothing_else_in_the_mini_batches(tmp_path: Path) -> None:
    """Of twelve groups two have a signal: each of two mini-batches gets one of them, and not both by chance. With a KL
    term every row has a signal."""
    silent = [Row(f"s{n}", group_id=f"extra/s0/i0/{n}") for n in range(2, 12)]
    loud = [Row(f"l{n}", group_id=f"extra/s0/i0/{n}", response_tokens=(10,) * (3 + n)) for n in range(2)]
    found = tables([*silent, *loud], {"l0": 1.0, "l1": 1.0} | {row.rollout_id: 0.0 for row in silent})
    steps = updated(found, tmp_path, signal_only=True, minibatches=2)[0]
    assert steps["rows"].to_list() == [1, 1]
    assert sorted(steps["loss_tokens"]) == [3, 4]
    with_kl = updated(found, tmp_path, signal_only=True, minibatches=2, kl_weight=0.1)[0]
    assert sum(with_kl["rows"]) == 12


def test_other_aggregates_have_their_own_denominators(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    sequence = one_step(found, tmp_path, aggregate="sequence_mean")
    assert sequence["loss"] == pytest.approx(-(1.5 - 0.5) / 3, abs=1e-6)
    constant = one_step(found, tmp_path, aggregate="constant", sampling={"max_response_tokens": 20})
    assert constant["loss"] == pytest.approx(-(1.5 * 6 - 0.5 * 8) / (3 * 20), abs=1e-6)


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.5, "wrong": -0.5, "equal": 0.0})
    whole, cut = one_step(found, tmp_path), one_step(found, tmp_path, tokens_per_batch=1)
    for name in ("loss", "gradient_norm", "entropy", "loss_tokens"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4), name


def test_a_masked_prefix_is_in_neither_the_loss_nor_its_denominator(tmp_path: Path) -> None:
    values = {"right": 1.0, "continued": -1.0}
    masked = one_step(tables([RIGHT, CONTINUED], values, {"continued": 3}), tmp_path)
    assert masked["loss_tokens"] == 6 + 5
    assert masked["loss"] == pytest.approx(-(6 - 5) / 11, abs=1e-6)
    trained = one_step(tables([RIGHT, CONTINUED], values), tmp_path)
    assert trained["loss_tokens"] == 6 + 8
    assert trained["loss"] == pytest.approx(-(6 - 8) / 14, abs=1e-6)


def test_a_masked_prefix_carries_no_gradient_it_acts_as_a_longer_prompt(tmp_path: Path) -> None:
    """The same text with the prefix handed over as prompt: loss, gradient and the next weights must be the same."""
    values = {"right": 1.0, "continued": -1.0}
    prompt = (*PROMPT, *CONTINUED.response_tokens[:3])
    as_prompt = Row("continued", prompt_tokens=prompt, response_tokens=CONTINUED.response_tokens[3:])
    masked = one_step(tables([RIGHT, CONTINUED], values, {"continued": 3}), tmp_path)
    longer = one_step(tables([RIGHT, as_prompt], values), tmp_path)
    trained = one_step(tables([RIGHT, CONTINUED], values), tmp_path)
    assert masked["loss"] == pytest.approx(longer["loss"], abs=1e-6)
    assert masked["gradient_norm"] == pytest.approx(longer["gradient_norm"], rel=1e-4)
    assert masked["entropy"] == pytest.approx(longer["entropy"], rel=1e-4)
    assert abs(trained["gradient_norm"] / longer["gradient_norm"] - 1) > 0.01


@pytest.mark.parametrize(("table", "column"), [
    ("score_entropy_generate", "policy_logprobs"),
    ("generate", "sampler_logprobs"),
])  # fmt: skip
def test_what_is_stored_of_a_masked_prefix_does_not_reach_the_step(tmp_path: Path, table: str, column: str) -> None:
    found = tables([RIGHT, CONTINUED], {"right": 1.0, "continued": -1.0}, {"continued": 3})
    plain = one_step(found, tmp_path)
    assert one_step(shifted(found, table, column, 3, -0.1), tmp_path) == plain
    assert one_step(shifted(found, table, column, 4, -0.1), tmp_path) != plain


def test_a_trained_prefix_carries_loss_but_no_importance_weight(tmp_path: Path) -> None:
    found = tables([RIGHT, CONTINUED], {"right": 1.0, "continued": -1.0})
    plain = one_step(found, tmp_path)
    assert one_step(shifted(found, "generate", "sampler_logprobs", 3, -0.1), tmp_path) == plain
    old = one_step(shifted(found, "score_entropy_generate", "policy_logprobs", 3, -0.1), tmp_path)
    assert old["loss"] != pytest.approx(plain["loss"], abs=1e-4)


def test_a_sampler_that_disagrees_is_weighed_up_to_the_cap_and_reported(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 1.0})
    less_likely = pl.col("sampler_logprobs").list.eval(pl.element() - 3.0)  # the ratio is e^3 on every token
    off = found | {"generate": found["generate"].with_columns(less_likely)}
    row = one_step(off, tmp_path)
    assert row["loss"] == pytest.approx(-2.0, abs=1e-5)
    assert row["importance_mean"] == pytest.approx(20.0855, rel=1e-4)
    assert row["importance_max"] == pytest.approx(20.0855, rel=1e-4)
    unweighed = one_step(off, tmp_path, importance_cap=None)
    assert unweighed["loss"] == pytest.approx(-1.0, abs=1e-5)
    assert unweighed["importance_max"] == pytest.approx(20.0855, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_logprobs_are_taken_at_the_sampling_temperature(tmp_path: Path, temperature: float) -> None:
    sampling = {"temperature": temperature}
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0}, sampling=sampling)
    row = one_step(found, tmp_path, sampling=sampling)
    assert row["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    entropies = found["score_entropy_generate"]["entropies"].explode()
    assert row["entropy"] == pytest.approx(entropies.mean(), rel=1e-4)


def response_logprobs(manifest: Path, rows: list[Row]) -> list[float]:
    """The logprob of each whole response under a policy."""
    rollouts = tables_of(rows)["generate"]
    scores = run_stage(score_entropy, {"rollouts": rollouts}, paths={"policy": manifest})["score_entropy"]
    return scores["policy_logprobs"].list.sum().to_list()


def test_a_step_makes_right_likelier_and_wrong_less_likely(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, manifest = updated(found, tmp_path, learning_rate=1e-5)
    before, after = (response_logprobs(path, [RIGHT, WRONG]) for path in (INITIAL, manifest))
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_the_same_inputs_give_the_same_policy(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    digests = [json.loads(updated(found, tmp_path / name)[1].read_text())["digest"] for name in "ab"]
    assert digests[0] == digests[1] != json.loads(INITIAL.read_text())["digest"]


def test_without_a_signal_the_next_policy_is_the_same_one(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 0.0, "wrong": 0.0})
    metrics, manifest = updated(found, tmp_path, weight_decay=0.1)
    assert metrics.is_empty()
    assert resolve(manifest) == POLICY
    assert json.loads(manifest.read_text())["digest"] == json.loads(INITIAL.read_text())["digest"]
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.json"]


def test_rows_that_are_left_out_are_not_in_the_denominator(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG, EQUAL], {"right": 1.0, "wrong": 0.0, "equal": 0.0})
    reasons = pl.Series("trained", ["trained", "unrescued", "excluded"], found["advantage"].schema["trained"])
    row = one_step(found | {"advantage": found["advantage"].with_columns(reasons)}, tmp_path)
    assert (row["rows"], row["loss_tokens"]) == (1, 6)
    assert row["loss"] == pytest.approx(-1.0, abs=1e-6)


def test_carried_parents_are_found_in_the_former_iteration(tmp_path: Path) -> None:
    former = tables([WRONG], {"wrong": -1.0})
    found = tables([RIGHT], {"right": 1.0}) | {"advantage": advantages({"right": 1.0, "wrong": -1.0})}
    found |= {f"previous_{name}": former[name] for name in ("generate", "score_entropy_generate")}
    row = one_step(found, tmp_path)
    assert row["loss_tokens"] == 14
    assert row["loss"] == pytest.approx(-(6 - 8) / 14, abs=1e-6)


def test_a_minibatch_without_signal_takes_no_step(tmp_path: Path) -> None:
    found = tables([RIGHT, EQUAL], {"right": 1.0, "equal": 0.0})
    metrics, _ = updated(found, tmp_path, minibatches=2)
    assert metrics["step"].to_list() == [0]
    assert metrics["loss_tokens"].to_list() == [6]


def test_bfloat16_is_that_of_the_scores(tmp_path: Path) -> None:
    """Scores and update share their arithmetic, or every ratio would start with the rounding of one of the two."""
    compute = {"precision": "bfloat16"}
    values = {"right": 1.0, "wrong": -1.0}
    found = tables([RIGHT, WRONG], values, compute=compute)
    assert one_step(found, tmp_path / "0", compute=compute)["approx_kl"] == pytest.approx(0.0, abs=1e-9)
    assert one_step(found, tmp_path / "1")["approx_kl"] > 1e-7
    assert {p.dtype for p in load_model(tmp_path / "0" / "policy").parameters()} == {torch.float32}
    stored = json.loads((tmp_path / "0" / "policy" / "config.json").read_text())
    assert stored["dtype"] == "float32"


def test_gradient_checkpointing_gives_the_same_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    calls: list[object] = []
    recompute = modeling_utils.checkpoint

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["use_reentrant"])
        return recompute(*arguments, **options)

    monkeypatch.setattr(modeling_utils, "checkpoint", counted)
    _, plain = updated(found, tmp_path / "0")
    assert calls == []
    _, recomputed = updated(found, tmp_path / "1", gradient_checkpointing=True)
    assert calls == [False] * load_model(POLICY).config.num_hidden_layers
    before, after = (load_model(path.parent).state_dict() for path in (plain, recomputed))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_a_removed_optimizer_state_is_not_taken_for_a_first_iteration(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, manifest = updated(found, tmp_path / "0")
    write_removed(manifest.parent, {"optimizer.safetensors": "retention.optimizer_states: 2"})
    (manifest.parent / "optimizer.safetensors").unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors was removed \(retention\.optimizer_states: 2\)"):
        updated(found, tmp_path / "1", policy=manifest)


def test_optimizer_state_goes_on_where_the_former_iteration_stopped(tmp_path: Path) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    config: dict[str, Any] = {"learning_rate": 1e-4, "warmup_steps": 4, "minibatches": 1, "epochs": 2}
    first, manifest = updated(found, tmp_path / "0", **config)
    assert first["learning_rate"].to_list() == pytest.approx([2.5e-5, 5e-5])
    second, manifest = updated(found, tmp_path / "1", policy=manifest, **config)
    assert second["learning_rate"].to_list() == pytest.approx([7.5e-5, 1e-4])
    empty, idle = updated(tables([RIGHT], {"right": 0.0}), tmp_path / "2", policy=manifest)
    assert empty.is_empty()
    third, _ = updated(found, tmp_path / "3", policy=idle, **config | {"warmup_steps": 8})
    assert third["learning_rate"].to_list() == pytest.approx([5 / 8 * 1e-4, 6 / 8 * 1e-4])


def test_the_optimizer_state_lies_where_the_workflow_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tables([RIGHT, WRONG], {"right": 1.0, "wrong": -1.0})
    _, plain = updated(found, tmp_path / "0")
    memory = tmp_path / "memory"
    monkeypatch.setenv(ANNOUNCED, Retention(1, 0, 0, 0, str(memory)).to_json())
    figures: dict[str, float] = {}
    run = update.run

    def noted(inputs: Any, config: Any, context: Any) -> Any:
        context.figures = figures
        return run(inputs, config, context)

    with monkeypatch.context() as patched:
        patched.setattr(update, "run", noted)
        _, linked = updated(found, tmp_path / "1")
    (stored,) = memory.iterdir()
    assert linked.read_bytes() == plain.read_bytes()  # no byte of the policy's manifest knows of it
    assert figures["optimizer_bytes"] == stored.stat().st_size
    assert set(figures) >= {"optimizer_read_s", "optimizer_write_s"}
    _, second = updated(found, tmp_path / "2", policy=linked)
    assert load_model(second.parent).state_dict().keys()
    stored.unlink()
    with pytest.raises(InputError, match="which is gone"):
        updated(found, tmp_path / "3", policy=linked)


@pytest.mark.parametrize("change", [{"lora": {}}, {"optimizer": "adamw_8bit"}])
def test_what_trains_in_one_process_only(change: dict[str, Any]) -> None:
    shared: dict[str, Any] = {"sampling": {}, "compute": {}}
    update.Config.model_validate({**shared, **change})
    with pytest.raises(ValidationError, match=f"{next(iter(change))}.* trains in one process"):
        update.Config.model_validate({**shared, **change, "processes": 2})


def test_the_kl_term_is_nothing_at_the_reference_and_reported_away_from_it(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 0.0})
    at_reference = one_step(found, tmp_path / "0", kl_weight=1.0)
    assert at_reference["kl_to_reference"] == pytest.approx(0.0, abs=1e-6)
    assert at_reference["signal_rows"] == 1
    _, moved = updated(tables([RIGHT], {"right": 1.0}), tmp_path / "1", learning_rate=3e-3)
    metrics, _ = updated(found, tmp_path / "2", policy=moved, kl_weight=1.0)
    assert metrics["kl_to_reference"][0] > 1e-3
    assert metrics["loss"][0] == pytest.approx(metrics["kl_to_reference"][0], rel=1e-4)


def test_a_diverged_policy_stops_the_run_and_leaves_no_policy_behind(tmp_path: Path) -> None:
    found = tables([RIGHT], {"right": 1.0})
    broken = load_policy(INITIAL)
    broken.model.model.norm.weight.data.fill_(float("nan"))
    bad = tmp_path / "broken" / "manifest.json"
    save_policy(bad, broken.model, broken.tokenizer, {})
    with pytest.raises(NumericalError, match="starts with rollout right"):
        updated(found, tmp_path, policy=bad)
    assert not (tmp_path / "policy" / "manifest.json").exists()


def test_the_next_policy_is_an_ordinary_model_directory(tmp_path: Path) -> None:
    _, manifest = updated(tables([RIGHT], {"right": 1.0}), tmp_path)
    assert load_model(manifest.parent).config.model_type == "qwen3"
    assert set(json.loads(manifest.read_text())["files"]) >= {"model.safetensors", "optimizer.safetensors"}
