"""The case of benchmarks/vs_trl.py with a pretrained model: stepwise arithmetic as config/smollm2.yaml asks for it.

Read from that file: prompts, levels, limits, the short supervised start, batch and group sizes, the learning rate. What
TRL does otherwise is set as TRL does it (`AS_TRL`). Our stages choose the problems, and TRL is given the same in the
same order, with the tokens that end a response of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.vs_trl_ours import AS_TRL, ROOT, iterations_of, snakemake

POLICY = "results/start/warm_start/policy/manifest.json"


def configuration(model: str, threads: int) -> dict[str, Any]:
    """The arm `grpo` where every level can be solved, from a model's directory, with a supervised start."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / "smollm2.yaml").read_text())
    mixed = config.pop("regimes")["mixed"]
    config["compare"] = {"ks": config["compare"]["ks"]}  # its comparisons name arms that are left out here
    return {
        **config,
        "name": "start",
        "compute": {"threads": threads, "device": "cpu"},
        "model": {**config["model"], "source": model},
        "select": {"prompts": config["select"]["prompts"], **mixed["select"]},
        "update": {**config["update"], **AS_TRL},
        "arms": {"grpo": config["arms"]["grpo"]},
    }


def turn_configuration(asked: dict[str, Any], steps: int) -> dict[str, Any]:
    """Of a turn from the policy that `make_start` made, as it is."""
    changed = {"name": "vs_trl", "seeds": [asked["seed"]], "iterations": steps, "warm_start": {"steps": 0}}
    return configuration(asked["model"], asked["threads"]) | changed


def make_start(model: Path, folder: Path, threads: int) -> Path:
    """The directory of the policy that both sides start from; made once, and kept in `folder`."""
    manifest = (folder / POLICY).resolve()
    if not manifest.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        snakemake(configuration(str(model.resolve()), threads), [POLICY], folder, 3600)
    return manifest.parent


def asked_of(start: Path, threads: int, rows: int, seed: int) -> dict[str, Any]:
    """What TRL is asked in a turn, but for the prompts. rows: of a forward and backward pass."""
    config = configuration(str(start), threads)
    return {
        "model": str(start),
        "group": config["generate"]["group_size"],
        "limit": config["sampling"]["max_response_tokens"],
        "rows_per_pass": rows,
        "learning_rate": config["update"]["learning_rate"],
        "ends": ends_of(start, config["sampling"]["stop"]),
        "threads": threads,
        "seed": seed,
    }


def ends_of(directory: Path, stop: list[str]) -> list[int]:
    """The tokens that end a response: the model's own, and all whose text contains a stop string of one character."""
    from extra_rl.models.policy import load_tokenizer
    from extra_rl.models.turns import known_end_ids

    tokenizer = load_tokenizer(directory)
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    stopping = {token for token, text in enumerate(texts) if any(string in text for string in stop)}
    return sorted(stopping | set(known_end_ids(tokenizer, directory)))


def prompts_of(config: dict[str, Any], folder: Path) -> list[list[tuple[str, str, str]]]:
    """Prompt, answer and problem of every group of every iteration of a run."""
    train = pl.read_parquet(folder / "results" / config["name"] / "prepare" / "train.parquet")
    chosen = (pl.read_parquet(iteration / "select.parquet") for iteration in iterations_of(config, folder))
    rows = (table.join(train, on="problem_id", how="left", maintain_order="left") for table in chosen)
    return [table.select("prompt", "answer", "problem").rows() for table in rows]
