"""The JSON schema of a configuration file, generated from the models, for editors and for checks without this project.

It is stricter than the models in one respect (text is not read as a number), and does not check rules between keys.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from extra_rl.config.arms import PRESETS, RESERVED_NAMES, SHARED_BY_ARMS
from extra_rl.config.run import RunConfig
from extra_rl.config.schedule import CHANGEABLE, KEY
from extra_rl.config.sections import SHARED
from stages import STAGES
from stages.load import load

REFERENCE = "#/$defs/{model}"


def schema() -> dict[str, Any]:
    """Return the schema of a whole file: run keys, shared sections, stage sections, and arms as diffs over them."""
    definitions: dict[str, Any] = {}
    run = _section(RunConfig, definitions)
    run["properties"]["tracking"] = _tracking(run["properties"]["tracking"], definitions)
    sections = {name: _section(model, definitions) for name, model in SHARED.items()}
    sections["task"]["properties"] |= _sources(sections["task"]["properties"])
    for name in STAGES:
        sections[name] = _section(load(name).Config, definitions, hidden=tuple(SHARED))
    for name, section in sections.items():
        shorthand = ["string"] if name in STAGES and load(name).Config.SHORTHAND else []
        definitions[name] = {**section, "type": ["object", "null", *shorthand]}
    references = {name: {"$ref": REFERENCE.format(model=name)} for name in sections}
    in_arms = {name: reference for name, reference in references.items() if name not in SHARED_BY_ARMS}
    preset = {
        "enum": list(PRESETS),
        "description": "a named combination of options, which the arm's other keys override",
    }
    diff = {"type": ["object", "null"], "properties": in_arms, "additionalProperties": False}
    definitions["diff"] = diff
    in_regimes = {
        "regimes": {
            "type": "array",
            "items": {"type": "string"},
            "description": "the regimes that it runs in; default: all",
        },
        "in_regime": {
            "type": ["object", "null"],
            "description": "regime -> additional changes in that regime",
            "additionalProperties": {"$ref": REFERENCE.format(model="diff")},
        },
    }
    definitions["arm"] = {
        **diff,
        "description": "a diff over the sections; {}: none",
        "properties": {"preset": preset, **in_regimes, **in_arms},
    }
    value = {"type": "number", "description": "its number on the report's axis"}
    regimes = {
        "type": ["object", "null"],
        "description": "name -> value and diff; every arm runs in each regime",
        "propertyNames": {"pattern": "^[A-Za-z0-9_]+$"},
        "additionalProperties": {
            **diff,
            "type": "object",
            "properties": {"value": value, **in_arms},
            "required": ["value"],
        },
    }
    definitions["entry"] = {
        "type": "object",
        "properties": {
            "from": {"type": "integer", "minimum": 1, "description": "first iteration in which it holds"},
            "arms": {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "default: all arms"},
            **{name: references[name] for name in CHANGEABLE},
        },
        "patternProperties": {rf"^({'|'.join(CHANGEABLE)})\.": {}},
        "required": ["from"],
        "additionalProperties": False,
    }
    schedule = {
        "type": ["array", "null"],
        "description": "changes from an iteration on; dotted keys may be used (docs/course.md)",
        "items": {"$ref": REFERENCE.format(model="entry")},
    }
    arms = {
        "type": "object",
        "description": "name -> diff; every arm runs with every seed",
        "minProperties": 1,
        "propertyNames": {
            "pattern": "^[A-Za-z0-9_-]+$",
            "not": {"anyOf": [{"enum": list(RESERVED_NAMES)}, {"pattern": "^warm_start"}]},
        },
        "additionalProperties": {"$ref": REFERENCE.format(model="arm")},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ExTra configuration",
        "type": "object",
        "properties": {**run["properties"], **references, "arms": arms, "regimes": regimes, KEY: schedule},
        "required": [*run["required"], "arms"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _section(model: type[BaseModel], definitions: dict[str, Any], hidden: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a model's schema without the hidden keys, and add its nested models to `definitions`."""
    found = model.model_json_schema(ref_template=REFERENCE)
    for name, nested in found.pop("$defs", {}).items():
        if definitions.setdefault(name, nested) != nested:
            raise AssertionError(f"two different models are called {name}")
    found.pop("title", None)
    found["properties"] = {key: value for key, value in found.get("properties", {}).items() if key not in hidden}
    if required := [key for key in found.pop("required", []) if key not in hidden]:
        found["required"] = required
    return found


def _tracking(found: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The forms of `tracking` in a file: a section, or a list of trackers; the model defines only the section."""
    trackers = definitions["TrackingConfig"]["properties"]["to"]
    forms = [{"$ref": REFERENCE.format(model="TrackingConfig")}, {"type": "array", "items": trackers["items"]}]
    return {"description": found["description"], "anyOf": [*forms, {"type": "null"}]}


def _sources(properties: dict[str, Any]) -> dict[str, Any]:
    """The forms of `train` and `benchmarks` in a file: names, or sources by name; the models define only the latter."""
    source = {"$ref": REFERENCE.format(model="SourceConfig")}
    by_name = {"type": "object", "additionalProperties": {"anyOf": [source, {"type": "null"}]}}
    forms = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    described = {key: {"description": properties[key]["description"]} for key in ("train", "benchmarks")}
    return {
        "train": {**described["train"], "anyOf": [*forms, source, by_name]},
        "benchmarks": {**described["benchmarks"], "anyOf": [*forms, by_name]},
    }
