"""Which other settings are tried on the rollouts of a finished iteration, around those of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from extra_rl.novelty import MEASURES

AS_IT_WAS = "as_it_was"
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.5)
OPTIONS: dict[str, tuple[Any, ...]] = {
    "centring": ("none", "among_correct"),
    "scale": ("none", "group_max", "batch_std"),
    "placement": ("after_normalisation", "before_normalisation"),
    "group": ("own", "joined"),
    "keep_unrescued": (True, False),
    "guided_advantage": ("signed", "positive_only"),
}
"""Keys of `advantage` whose values are few."""
WITHOUT_EMBEDDINGS = ("zero", "lexical", "ngram_count", "surprise")
WITH_A_RANDOM_CONTROL = ("sentence", "policy", "random")
"""Measures whose values the measure `random` permutes; an elliptical bonus has other magnitudes."""


@dataclass(frozen=True)
class Variant:
    """Changed keys of the sections `novelty` and `advantage`."""

    novelty: Mapping[str, Any] = field(default_factory=dict)
    advantage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it changes, as KEY=VALUE of the configuration."""
        params = {key: value for key, value in self.novelty.items() if key != "params"} | self.novelty.get("params", {})
        return " ".join(f"{key}={word(value)}" for key, value in {**params, **self.advantage}.items()) or AS_IT_WAS


def word(value: Any) -> str:
    """Return a value as written in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def variants_of(novelty: Mapping[str, Any], advantage: Mapping[str, Any], embedder: str) -> list[Variant]:
    """Return the run's own settings first, then each with one thing changed.

    novelty, advantage: the run's sections. embedder: the measure whose embeddings the run stored; "" for none.
    Where the run had no novelty, the options of the bonus are tried on the lexical measure at weight 0.1, which their
    names show.
    """
    on = switched_on(novelty, advantage)
    found = [Variant()]
    found += [Variant(on.novelty, {**on.advantage, "weight": weight}) for weight in WEIGHTS]
    found += [Variant(change, on.advantage) for change in measures_of(novelty, embedder)]
    of_bonus = ("centring", "scale", "placement")
    found += [
        Variant(on.novelty, {**on.advantage, key: value}) if key in of_bonus else Variant({}, {key: value})
        for key, values in OPTIONS.items()
        for value in values
    ]
    return without_repetition(found, novelty, advantage)


def combinations_of(novelty: Mapping[str, Any], advantage: Mapping[str, Any], embedder: str) -> list[Variant]:
    """Return the run's own settings first, then every measure x weight x centring x scale x placement x group."""
    keys = ("centring", "scale", "placement", "group")
    found = [Variant(), *(Variant({}, {"weight": 0.0, "group": group}) for group in OPTIONS["group"])]
    found += [
        Variant(measure, {"weight": weight, **dict(zip(keys, values, strict=True))})
        for measure in measures_of(novelty, embedder)
        for weight in WEIGHTS[1:]
        for values in product(*(OPTIONS[key] for key in keys))
        if measure["measure"] != "zero"
    ]
    return without_repetition(found, novelty, advantage)


def switched_on(novelty: Mapping[str, Any], advantage: Mapping[str, Any]) -> Variant:
    """Return the changes that switch a bonus on; none in a run that had one."""
    measure = {"measure": "lexical", "params": {}} if novelty["measure"] == "zero" else {}
    return Variant(measure, {} if advantage["weight"] else {"weight": 0.1})


def measures_of(novelty: Mapping[str, Any], embedder: str) -> list[dict[str, Any]]:
    """Return changes of the section `novelty`: measures that need no embedding, and those that use the stored ones."""
    found: list[dict[str, Any]] = [{"measure": name, "params": {}} for name in WITHOUT_EMBEDDINGS]
    if embedder:
        found += [
            {"measure": embedder, "params": {"pool": pool, "aggregate": aggregate}}
            for pool, aggregate in product(("all", "correct"), ("nearest", "mean"))
        ]
        found += [{"measure": "elliptical", "params": {"reference": embedder}}]
    if embedder and novelty["measure"] in WITH_A_RANDOM_CONTROL:
        found += [{"measure": "random", "params": random_params(novelty["params"], embedder)}]
    return found


def random_params(params: Mapping[str, Any], embedder: str) -> dict[str, Any]:
    """Return settings of the random control that permutes the values of a measure with these params."""
    return {**params, "reference": embedder}


def without_repetition(
    found: Iterable[Variant], novelty: Mapping[str, Any], advantage: Mapping[str, Any]
) -> list[Variant]:
    """Return the variants without those that equal an earlier one."""
    kept: dict[str, Variant] = {}
    for variant in found:
        measured = {**novelty, **variant.novelty}
        measured["params"] = MEASURES[measured["measure"]].Params.model_validate(measured["params"]).model_dump()
        kept.setdefault(json.dumps([measured, {**advantage, **variant.advantage}], sort_keys=True), variant)
    return list(kept.values())
