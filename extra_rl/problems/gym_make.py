"""Generation of Reasoning Gym's items in a separate process, so that every run has the same items.

Some generators iterate over sets of texts, whose order depends on Python's hash seed, or draw from the global `random`.
So the process has a fixed hash seed, and `random` is seeded for each item. Output that the library prints is discarded.

`made_items` starts the process. `python -m extra_rl.problems.gym_make` takes the sets as JSON and writes JSON lines: an
item per line, or {"error": message} for an error in the configuration.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from extra_rl.config.sections import GymSetConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.judging.gym_library import EXAMPLES, make, require
from extra_rl.judging.gym_record import from_json, to_json

HASH_SEED = "0"


@dataclass(frozen=True)
class GymItemMade:
    """An item of a set.

    Args:
        name: of the set in the configuration.
        index: of the item in the set.
        question: the problem's text.
        oracle: a correct answer as text, None if the library has none.
        record: JSON of dataset, config, seed, index and the library's entry (`gym_record`), None with a fault.
        fault: why there is no record.
    """

    name: str
    index: int
    question: str
    oracle: str | None
    record: str | None
    fault: str | None = None


def made_items(sets: Mapping[str, GymSetConfig], progress: Callable[[int], object]) -> dict[str, list[GymItemMade]]:
    """Return all items of each set in the order of their index. progress: called with 1 for each.

    Raises ConfigError for a missing package and for sets that the library rejects (`gym_library.make`), InputError if
    the process fails.
    """
    require()
    environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    requested = json.dumps({name: json.loads(to_json(chosen.model_dump())) for name, chosen in sets.items()})
    found: dict[str, list[GymItemMade]] = {name: [] for name in sets}
    with subprocess.Popen(
        [sys.executable, "-m", "extra_rl.problems.gym_make", requested],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            row = json.loads(line)
            if "error" in row:
                raise ConfigError(row["error"])
            item = GymItemMade(**row)
            found[item.name].append(item)
            progress(1)
    if process.returncode:
        raise InputError(f"the process that makes the items ended with {process.returncode}; its message is on stderr.")
    return found


def write_items(sets: Mapping[str, GymSetConfig], out: TextIO) -> None:
    """Write each item as a line of JSON. Raises ConfigError; all sets are checked before any item is made."""
    made = {
        name: make(name, chosen.dataset, chosen.config, size=chosen.size, seed=chosen.seed)
        for name, chosen in sets.items()
    }
    for name, chosen in sets.items():
        for index in range(chosen.size):
            out.write(json.dumps(asdict(item_of(name, chosen, made[name], index))) + "\n")
            out.flush()


def item_of(name: str, chosen: GymSetConfig, made: Any, index: int) -> GymItemMade:
    """Return one item. Raises ConfigError if the library cannot make it with this configuration."""
    import numpy as np

    random.seed(f"{chosen.dataset}/{chosen.seed}/{index}")
    np.random.seed(chosen.seed % 2**32)
    try:
        entry = made[index]
    except Exception as error:
        raise ConfigError(
            f"task.sets.{name}: {chosen.dataset} cannot make its item {index} with this configuration "
            f"({type(error).__name__}: {error})"
        ) from error
    oracle = oracle_of(chosen.dataset, entry)
    about = {"dataset": chosen.dataset, "config": chosen.config, "seed": chosen.seed, "index": index}
    try:
        record = to_json({**about, "entry": dict(entry)})
    except TypeError as error:
        fault = f"its metadata contains a {error}, which cannot be stored as JSON"
        return GymItemMade(name, index, str(entry["question"]), oracle, None, fault)
    return GymItemMade(name, index, str(entry["question"]), oracle, record)


def oracle_of(dataset: str, entry: Mapping[str, Any]) -> str | None:
    """Return a correct answer of an entry as text: the oracle answer, else the example in its metadata, else None."""
    answer = entry["answer"]
    if answer is None:
        answer = entry["metadata"].get(EXAMPLES.get(dataset, ""))
    if answer is None or isinstance(answer, str):
        return answer
    return json.dumps(answer) if isinstance(answer, dict | list) else str(answer)


def main() -> int:
    """Write the items of the sets in the first command-line argument."""
    out = sys.stdout
    requested = {name: _set_of(given) for name, given in json.loads(sys.argv[1]).items()}
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints
        try:
            write_items(requested, out)
        except ConfigError as error:
            out.write(json.dumps({"error": str(error)}) + "\n")
    return 0


def _set_of(given: object) -> GymSetConfig:
    return GymSetConfig.model_validate(from_json(json.dumps(given)))


if __name__ == "__main__":
    raise SystemExit(main())
