"""The sample store: what is put in comes out, parts are whole, settings and policies are kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extra_rl.errors import ContractError, InputError
from extra_rl.evaluation.store import Cached, Key, SampleStore, problem_key

SETTINGS = {"temperature": 0.7, "seed": 0}
POLICY = "a" * 64


def sample(*tokens: int, stop: bool = True) -> Cached:
    return Cached(np.array(tokens, dtype=np.int32), "stop" if stop else "length")


def contents(store: SampleStore) -> dict[Key, tuple[list[int], str]]:
    return {key: (found.tokens.tolist(), found.finish_reason) for key, found in store.read().items()}


def test_parts_are_read_together(tmp_path: Path) -> None:
    store = SampleStore.open(tmp_path, POLICY, SETTINGS)
    store.add({("p", 0): sample(5, 6, 2), ("p", 1): sample(stop=False)})
    store.add({("q", 0): sample(7)})
    again = SampleStore.open(tmp_path, POLICY, SETTINGS)
    assert contents(again) == {("p", 0): ([5, 6, 2], "stop"), ("p", 1): ([], "length"), ("q", 0): ([7], "stop")}
    assert contents(SampleStore.open(tmp_path, POLICY, {**SETTINGS, "seed": 1})) == {}


@pytest.mark.parametrize(
    ("policy", "settings"), [("b" * 64, SETTINGS), (POLICY, {**SETTINGS, "temperature": 1.0}), (POLICY, {"seed": 0})]
)
def test_another_policy_or_setting_has_a_separate_folder(
    tmp_path: Path, policy: str, settings: dict[str, float]
) -> None:
    store = SampleStore.open(tmp_path, POLICY, SETTINGS)
    other = SampleStore.open(tmp_path, policy, settings)
    assert other.folder != store.folder
    assert (other.folder.parent == store.folder.parent) == (policy == POLICY)


def test_digests_with_the_same_first_digits_are_distinguished(tmp_path: Path) -> None:
    SampleStore.open(tmp_path, POLICY, SETTINGS)
    with pytest.raises(InputError, match=r"settings.json: the samples have other settings"):
        SampleStore.open(tmp_path, "a" * 63 + "b", SETTINGS)


def test_the_name_of_a_part_follows_from_its_rows(tmp_path: Path) -> None:
    store = SampleStore.open(tmp_path, POLICY, SETTINGS)
    first = store.add({("p", 0): sample(5)})
    second = store.add({("p", 1): sample(5)})
    assert first != second
    assert store.add({("p", 0): sample(5)}) == first
    assert len(list(store.folder.glob("part-*"))) == 2


def test_a_partial_file_is_ignored_and_a_damaged_part_is_named(tmp_path: Path) -> None:
    store = SampleStore.open(tmp_path, POLICY, SETTINGS)
    whole = store.add({("p", n): sample(n) for n in range(10)})
    (store.folder / ".part-00.parquet.abc.tmp").write_bytes(whole.read_bytes()[:100])
    assert len(store.read()) == 10
    damaged = store.folder / "part-damaged.parquet"
    damaged.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(InputError, match=r"part-damaged.parquet: not a readable Parquet file.*Delete it"):
        store.read()


def test_a_part_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    store = SampleStore.open(tmp_path, POLICY, SETTINGS)
    with pytest.raises(ContractError, match="CachedSamples"):
        store.add({("p", -1): sample(1)})


def test_the_key_depends_on_the_id_and_the_tokens() -> None:
    keys = {problem_key("p", [1, 2]), problem_key("q", [1, 2]), problem_key("p", [1, 3]), problem_key("p", [12])}
    assert len(keys) == 4
    assert problem_key("p", [1, 2]) == problem_key("p", (1, 2))
