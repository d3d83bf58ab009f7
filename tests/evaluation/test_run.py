"""What an evaluation samples, and what it finds in the cache: counted at the sampler, whose answers are scripted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig, TaskConfig, VerifierConfig
from extra_rl.errors import InputError, ModelError, NumericalError
from extra_rl.evaluation import Evaluation, evaluate
from extra_rl.evaluation.policies import EvaluatedPolicy
from extra_rl.evaluation.run import SETTINGS, settings_of
from extra_rl.evaluation.sample import whole_batches
from extra_rl.models.policy import write_manifest
from extra_rl.run.progress import Console
from extra_rl.sampling.base import Request, Sample
from extra_rl.tables import contracts
from tests.stages.rows import frame, problem

BATCH = 4
TEXTS = (r"So \boxed{5}.", r"So \boxed{6}.", "The answer is 5.", "I do not know")


@dataclass
class Script:
    """Stands for the sampler: what it answers follows from the request's seed alone; it counts and can be killed."""

    calls: list[list[Request]] = field(default_factory=list)
    opened: int = 0
    die_after: int | None = None
    logprob: float = -1.0

    @property
    def requests(self) -> int:
        return sum(map(len, self.calls))

    def open(self, policy: Path, config: SamplingConfig, compute: ComputeConfig, longest: int) -> Any:
        self.opened += 1
        return nullcontext((self, decode))

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Callable[[int], object]
    ) -> list[Sample]:
        if self.die_after is not None and len(self.calls) >= self.die_after:
            raise KeyboardInterrupt
        self.calls.append(list(requests))
        texts = [TEXTS[request.seed % len(TEXTS)].encode() for request in requests]
        return [Sample(list(text), [self.logprob] * len(text), "stop") for text in texts]


def decode(tokens: Sequence[Sequence[int]]) -> list[str]:
    return [bytes(ids).decode() for ids in tokens]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    monkeypatch.setattr("extra_rl.sampling.open.open_sampler", made.open)
    monkeypatch.setattr("extra_rl.sampling.open.open_decoder", lambda directory, stop=(): decode)
    return made


def problems(*names: str, answer: str = "5", tolerance: float = 0.0) -> pl.DataFrame:
    rows = [
        problem(name, name, answer, name[0])
        | {"prompt_tokens": [1, *name.encode()], "relative_tolerance": tolerance, "absolute_tolerance": 0.0}
        for name in names
    ]
    return frame(contracts.Problems, rows)


def evaluated(folder: Path, given: pl.DataFrame, *, digest: str = "a" * 64, **changes: Any) -> Evaluation:
    cache = changes.pop("cache", folder / "cache")
    verifier = VerifierConfig(**changes.pop("verifier", {}))
    options = {"samples": 3, "seed": 0, "part_samples": BATCH, **changes}
    own = {name: options.pop(name) for name in ("samples", "seed", "part_samples")}
    return evaluate(
        given,
        EvaluatedPolicy("scripted", folder, folder, digest),
        task=TaskConfig(name="math"),
        verifier=verifier,
        sampling=SamplingConfig(**{"batch_rows": BATCH, **options}),
        compute=ComputeConfig(device="cpu"),
        cache=cache,
        console=Console(None),
        **own,
    )


TWO = ("A/1", "A/2")


def test_cached_samples_are_not_drawn_again_and_the_model_is_not_opened(tmp_path: Path, script: Script) -> None:
    first = evaluated(tmp_path, problems(*TWO))
    assert (script.requests, script.opened) == (6, 1)
    again = evaluated(tmp_path, problems(*TWO))
    assert (script.requests, script.opened) == (6, 1)
    assert len({request.seed for call in script.calls for request in call}) == 6
    assert again.samples.equals(first.samples)
    assert again.figures.equals(first.figures)


def test_more_samples_and_benchmarks_draw_only_new_samples(tmp_path: Path, script: Script) -> None:
    first = evaluated(tmp_path, problems(*TWO)).samples
    more = evaluated(tmp_path, problems(*TWO), samples=5).samples
    assert script.requests == 6 + 4
    assert more.filter(pl.col("sample_index") < 3).equals(first)
    evaluated(tmp_path, problems("B/1", *TWO), samples=5)
    assert script.requests == 6 + 4 + 5
    assert evaluated(tmp_path, problems(*TWO), samples=2).samples.equals(first.filter(pl.col("sample_index") < 2))
    assert script.requests == 15
    assert more.equals(evaluated(tmp_path, problems(*TWO), samples=5, cache=None).samples)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"top_k": 3},
        {"max_response_tokens": 63},
        {"seed": 1},
        {"digest": "b" * 64},
    ],
    ids=str,
)
def test_another_policy_or_setting_draws_new_samples(tmp_path: Path, script: Script, changes: dict[str, Any]) -> None:
    evaluated(tmp_path, problems(*TWO))
    evaluated(tmp_path, problems(*TWO), **changes)
    assert script.requests == 12


def test_the_order_of_stop_strings_does_not_change_the_cache() -> None:
    def settings(**sampling: Any) -> dict[str, Any]:
        return settings_of(SamplingConfig(**sampling), ComputeConfig(), 3)

    assert set(settings()) == {*SETTINGS, "stop", "precision", "seed"}
    assert settings(stop=["b", "a", "b"]) == settings(stop=["a", "b"]) == settings() | {"stop": ["a", "b"]}


def test_batch_and_part_sizes_do_not_draw_new_samples(tmp_path: Path, script: Script) -> None:
    evaluated(tmp_path, problems(*TWO))
    evaluated(tmp_path, problems(*TWO), batch_rows=7, part_samples=100)
    assert script.requests == 6


def test_another_prompt_of_the_same_problem_draws_new_samples(tmp_path: Path, script: Script) -> None:
    evaluated(tmp_path, problems(*TWO))
    longer = problems(*TWO).with_columns(prompt_tokens=pl.lit([1, 2, 3], dtype=pl.List(pl.Int32)))
    evaluated(tmp_path, longer)
    assert script.requests == 12


def test_another_verifier_or_gold_judges_again_without_sampling(tmp_path: Path, script: Script) -> None:
    first = evaluated(tmp_path, problems("A/1"), samples=12).samples
    by_text = dict(zip(first["response"], first["verdict"], strict=True))
    assert by_text == {TEXTS[0]: "right", TEXTS[1]: "wrong", TEXTS[2]: "right", TEXTS[3]: by_text[TEXTS[3]]}
    strict = evaluated(tmp_path, problems("A/1"), samples=12, verifier={"policy": {"fallbacks": []}}).samples
    assert set(strict.filter(response=TEXTS[2])["verdict"]) == {"no_answer"}
    other = evaluated(tmp_path, problems("A/1", answer="6"), samples=12).samples
    assert set(other.filter(response=TEXTS[1])["verdict"]) == {"right"}
    near = evaluated(tmp_path, problems("A/1", answer="5.04", tolerance=0.01), samples=12).samples
    assert set(near.filter(response=TEXTS[0])["verdict"]) == {"right"}
    exact = evaluated(tmp_path, problems("A/1", answer="5.04"), samples=12).samples
    assert set(exact.filter(response=TEXTS[0])["verdict"]) == {"wrong"}
    assert script.requests == 12


def test_an_interrupted_evaluation_continues_with_the_same_batches(tmp_path: Path, script: Script) -> None:
    names = ("A/3", "A/1", "B/10", "A/2")
    whole = evaluated(tmp_path / "whole", problems(*names), samples=5)
    batches, script.calls = script.calls, []
    contexts = [request.context for batch in batches for request in batch]
    assert contexts == sorted(contexts, key=lambda context: (len(context), context))  # as the sampler itself would
    script.die_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "cut", problems(*names), samples=5)
    assert script.requests == 2 * BATCH
    script.die_after = None
    resumed = evaluated(tmp_path / "cut", problems(*names), samples=5)
    assert script.calls == batches
    assert len(batches) == 5
    assert resumed.samples.equals(whole.samples)
    assert resumed.figures.equals(whole.figures)
    parts = [sorted(path.name for path in (tmp_path / name).rglob("part-*")) for name in ("whole", "cut")]
    assert parts[0] == parts[1]


def test_parts_are_whole_batches() -> None:
    assert [whole_batches(size, 4) for size in (1, 4, 5, 8)] == [4, 4, 8, 8]


def test_a_policy_with_non_finite_logprobs_caches_nothing(tmp_path: Path, script: Script) -> None:
    script.logprob = float("nan")
    with pytest.raises(NumericalError, match="not finite, in 4 of 4 samples"):
        evaluated(tmp_path, problems(*TWO))
    assert list(tmp_path.rglob("part-*")) == []


def test_without_a_cache_nothing_is_written(tmp_path: Path, script: Script) -> None:
    evaluated(tmp_path, problems(*TWO), cache=None)
    assert script.requests == 6
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_beyond_the_context_is_refused_before_sampling(tmp_path: Path, script: Script) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 20}')
    evaluated(tmp_path, problems(*TWO), max_response_tokens=16)  # 4 + 16
    with pytest.raises(ModelError, match=r"A/100 has 6 and its response up to 16.*at most 14\."):
        evaluated(tmp_path, problems(*TWO, "A/100"), max_response_tokens=16)
    with pytest.raises(ModelError, match=r"1 problem\(s\) do not fit\. Remove them"):
        evaluated(tmp_path, problems("A/" + "1" * 30), max_response_tokens=1)
    assert script.requests == 6


def test_the_policys_own_tokens_are_in_the_table(tmp_path: Path, script: Script) -> None:
    table = evaluated(tmp_path, problems("A/1")).samples
    assert table["prompt_tokens"].to_list() == [[1, *b"A/1"]] * 3
    assert [bytes(ids).decode() for ids in table["response_tokens"].to_list()] == table["response"].to_list()
    assert np.unique(table["gold"]).tolist() == ["5"]


def test_weights_that_change_meanwhile_put_no_sample_into_the_cache(tmp_path: Path, script: Script) -> None:
    """Their samples would be taken for those of the policy whose digest names the cache, also after a repair."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 100)
    write_manifest(tmp_path / "manifest.json", {"name": "extra/s0/i0/policy"})
    sample = script.sample

    def damaged_in_the_second_part(*arguments: Any) -> list[Sample]:
        if script.calls:
            weights.write_bytes(b"1" * 100)
        return sample(*arguments)

    script.sample = damaged_in_the_second_part  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that .*manifest\.json lists"):
        evaluated(tmp_path, problems(*TWO))
    assert (script.requests, len(list(tmp_path.rglob("part-*.parquet")))) == (6, 1)
    weights.write_bytes(b"0" * 100)
    script.sample = sample  # type: ignore[method-assign]
    evaluated(tmp_path, problems(*TWO))
    assert script.requests == 6 + 2
