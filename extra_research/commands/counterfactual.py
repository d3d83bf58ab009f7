"""Advantages and chosen prefixes of a finished iteration under other settings.

extra counterfactual results/tiny/extra/s0/iteration_0003
extra counterfactual results/tiny/extra/s0/iteration_0003 --also weight=0.3 measure=lexical --every-combination

Reads the iteration's files alone; samples nothing and needs no GPU. docs/counterfactuals.md explains the columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError, InputError

if TYPE_CHECKING:
    from extra_research.finished import FinishedStage
    from extra_research.variants import Variant

HELP = "advantages and prefixes of a finished iteration under other settings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iteration", type=Path, help="folder iteration_NNNN of a run")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: ITERATION/counterfactual")
    parser.add_argument(
        "--also",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="one more variant: keys of the sections novelty and advantage (YAML); may be given again",
    )
    parser.add_argument(
        "--every-combination", action="store_true", help="every measure with every weight, centring, scale, ... instead"
    )
    parser.add_argument(
        "--smoothing",
        action="append",
        choices=("policy", "sentence"),
        default=[],
        help="try rules with smoothed scores too; loads a model for every hard group",
    )


def run(arguments: argparse.Namespace) -> int:
    from extra_research import contracts
    from extra_research.advantages import advantages_under
    from extra_research.finished import open_stage, write
    from extra_research.prefixes import choices_under, continued_in, rules_of
    from extra_research.text import counterfactual_lines

    folder: Path = arguments.iteration
    advantage, novelty, chooser = (open_stage(folder, name) for name in ("advantage", "novelty", "choose_prefixes"))
    if advantage.outputs["advantage"].is_empty():
        raise InputError(f"{folder}: no rollouts (the budget was spent before); name an earlier iteration.")
    variants = requested_variants(advantage, novelty, arguments)
    advantages = advantages_under(variants, advantage, novelty)
    rules = rules_of(chooser.config().model_dump(mode="json"), arguments.smoothing)
    choices = choices_under(rules, chooser, continued_in(folder))
    tables = {
        "advantages": (advantages.long, contracts.CounterfactualAdvantages),
        "variants": (advantages.variants, contracts.CounterfactualVariants),
        "prefixes": (choices.long, contracts.CounterfactualPrefixes),
        "rules": (choices.rules, contracts.CounterfactualRules),
    }
    paths = write(arguments.out or folder / "counterfactual", (advantage, novelty, chooser), tables)
    print("\n".join([*counterfactual_lines(advantages.variants, choices), *(f"  {path}" for path in paths)]))
    return 0


def requested_variants(
    advantage: FinishedStage, novelty: FinishedStage, arguments: argparse.Namespace
) -> list[Variant]:
    """Return the usual variants, or every combination, and those that --also names.

    A usual variant whose options contradict those of the run is left out, and so is the measure `surprise` where the
    run did not score every rollout (`score_entropy.rows: signal`), which is printed.
    """
    from extra_research.variants import combinations_of, variants_of, without_repetition

    sections = (novelty.config().model_dump(mode="json"), advantage.config().model_dump(mode="json"))
    embedder = novelty.config().embedder()
    stored = novelty.outputs["novelty"]["embedding"].is_not_null().any()
    choose = combinations_of if arguments.every_combination else variants_of
    usual = choose(*sections, embedder if stored else "")
    found = [variant for variant in usual if is_valid(advantage, variant)]
    if not every_rollout_is_scored(novelty):
        found = [variant for variant in found if variant.novelty.get("measure") != "surprise"]
        print("left out: measure=surprise, which needs the scores of all rollouts (score_entropy.rows: all)")
    also = [parse_variant(words, *sections) for words in arguments.also]
    for variant in also:
        novelty.config(variant.novelty), advantage.config(variant.advantage)
    return without_repetition([*found, *also], *sections)


def every_rollout_is_scored(novelty: FinishedStage) -> bool:
    """Return whether all rollouts have the policy's logprobs."""
    from extra_rl.tables.iteration import all_rollouts

    return not all_rollouts(novelty.inputs)["policy_logprobs"].has_nulls()


def is_valid(advantage: FinishedStage, variant: Variant) -> bool:
    """Return whether the section `advantage` allows the variant, as `group: joined` with `credit: segment` is not."""
    try:
        advantage.config(variant.advantage)
    except ConfigError:
        return False
    return True


def parse_variant(words: list[str], novelty: dict[str, Any], advantage: dict[str, Any]) -> Variant:
    """Return the variant of KEY=VALUE words; ConfigError for a key that neither section has."""
    import yaml

    from extra_research.variants import Variant

    changes: dict[str, dict[str, Any]] = {"novelty": {}, "advantage": {}}
    for given in words:
        key, equals, value = given.partition("=")
        if not equals or key not in {*novelty, *advantage}:
            keys = ", ".join(["measure", "params", *advantage])
            raise ConfigError(f"--also {given}: expected KEY=VALUE with one of the keys {keys}.")
        try:
            changes["novelty" if key in novelty else "advantage"][key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--also {given}: not a YAML value; quote it if it is text.") from None
    if "measure" in changes["novelty"]:
        changes["novelty"] = {"params": {}, **changes["novelty"]}
    return Variant(changes["novelty"], changes["advantage"])
