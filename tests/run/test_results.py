"""Ids of rollouts and groups, and back."""

from __future__ import annotations

import re

import pytest

from extra_rl.results import REPLAYED, RolloutId, continuation_group, replay_group, replayed_group


@pytest.mark.parametrize(
    ("text", "group", "group_id"),
    [
        ("h90-extra/s0/i7/5/1", "5", "h90-extra/s0/i7/5"),
        ("extra/s0/i8/i7.5/0", "i7.5", "extra/s0/i7/5"),
        ("extra/s12/i8/i7.r3.15/0", "i7.r3.15", "extra/s12/i7/r3.15"),
    ],
)
def test_an_id_names_its_group(text: str, group: str, group_id: str) -> None:
    found = RolloutId.parse(text)
    assert found is not None
    assert (str(found), found.group, found.group_id) == (text, group, group_id)


@pytest.mark.parametrize("text", ["extra/s0/i8/r3.5/0", "extra/s0/i8/i7.x3.5/0", "extra/s0/i8/i7.r3/0"])
def test_other_texts_are_no_ids(text: str) -> None:
    assert RolloutId.parse(text) is None


def test_a_group_of_replays_is_named_after_the_group_of_its_trajectory() -> None:
    name = replay_group("extra/s0/i3/15", "extra/s0/i7")
    assert name == "extra/s0/i7/r3.15"
    assert replayed_group(name) == "extra/s0/i3/15"
    assert continuation_group(name, "extra/s0/i8") == "extra/s0/i8/i7.r3.15"
    assert re.search(REPLAYED, name)
    assert not re.search(REPLAYED, "extra/s0/i3/15")
