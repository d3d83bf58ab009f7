"""Write a policy of a run as a folder that transformers, peft and vLLM read without ExTra.

extra export results/qwen/extra/s0/iteration_0299/policy my_model
extra export results/qwen my_model --arm extra --seed 0 --dtype bfloat16    # the last iteration
extra export results/qwen my_model --arm extra --adapter                    # only the LoRA adapter
extra export results/qwen my_model --push-to-hub me/my_model

It writes weights, config, tokenizer, chat template, generation config and a model card (docs/export.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from extra_rl.export.weights import DTYPES

HELP = "a policy as a folder for transformers, peft and vLLM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy", type=Path, metavar="POLICY", help="folder of a policy or an iteration, or results/NAME"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="new folder")
    parser.add_argument("--arm", help="of results/NAME (default: the only one)")
    parser.add_argument("--seed", type=int, help="of results/NAME (default: the only one)")
    parser.add_argument("--iteration", type=int, help="of results/NAME (default: the last)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the weights (default float32)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--adapter", action="store_true", help="LoRA: only the adapter")
    parts.add_argument("--merged", action="store_true", help="LoRA: only the merged weights")
    parser.add_argument("--base", metavar="MODEL", help="LoRA: base model that the adapter names")
    parser.add_argument("--force", action="store_true", help="replace an earlier export in DIR")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="with --push-to-hub: a new repository is private")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.export import hub
    from extra_rl.export.folder import ADAPTER_FOLDER, export
    from extra_rl.export.place import find

    if arguments.push_to_hub:
        hub.require_name(arguments.push_to_hub)
    policy = find(arguments.policy, arguments.arm, arguments.seed, arguments.iteration)
    made = export(
        policy,
        arguments.folder,
        dtype=arguments.dtype,
        parts="adapter" if arguments.adapter else "merged" if arguments.merged else "both",
        base=arguments.base,
        force=arguments.force,
    )
    print(f"{made.folder}: {policy.name} ({str(policy.content['digest'])[:16]}) in {arguments.dtype}")
    for name, size in made.files.items():
        print(f"  {size:>14,}  {name}")
    if made.base is not None:
        where = "" if arguments.adapter else f" in {made.folder / ADAPTER_FOLDER}"
        print(f"The adapter{where} belongs to the base model {made.base}.")
    print("README.md states no licence: set `license` in its header before you publish.")
    if arguments.push_to_hub:
        print(hub.push(made.folder, arguments.push_to_hub, private=arguments.private))
    return 0
