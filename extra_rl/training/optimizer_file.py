"""The optimizer's state between iterations: next to the policy, or in another folder, to which a link there points.

With `retention.optimizer_folder` in memory (/dev/shm) the state is never written to the disk.
Source: our decision (docs/decisions/0010-optimizer-state.md).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import InputError
from extra_rl.models.digests import require_file
from extra_rl.models.policy import OPTIMIZER_FILE
from extra_rl.models.removed import FORGOTTEN_FILE, how_to_rebuild, name_elsewhere, refuse_removed, remove_file

if TYPE_CHECKING:
    from torch import Tensor


def write_optimizer(directory: Path, state: Mapping[str, Tensor], folder: Path | None = None) -> dict[str, float]:
    """Write the state of a policy's directory; return its cost: `optimizer_write_s`, `optimizer_bytes`.

    folder: receives the file; None: the directory itself. An empty state writes nothing. Raises InputError where disk
    or memory is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    started = time.perf_counter()
    file = directory / OPTIMIZER_FILE
    remove_file(file)
    if not state:
        return {}
    target = file if folder is None else folder.absolute() / name_elsewhere(file)
    try:
        if folder is None:
            save_file(dict(state), file)
        else:
            _save_elsewhere(dict(state), target)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{target}: the optimizer state cannot be written ({error}). Free space there (retention.optimizer_states "
            "limits how many states are kept, retention.optimizer_folder sets where), and run again."
        ) from error
    if folder is not None:
        file.symlink_to(target)
    return {"optimizer_write_s": time.perf_counter() - started, "optimizer_bytes": float(file.stat().st_size)}


def _save_elsewhere(state: dict[str, Tensor], target: Path) -> None:
    """Write the file in a subfolder that only this policy's writer uses, then rename it into the shared folder.

    safetensors leaves a temporary file with a random name when it is killed. In a folder that other policies share,
    and that may be memory, nobody could tell it from a file that is being written; in the subfolder, the next writer
    of this policy removes it.
    """
    from safetensors.torch import save_file

    folder = target.with_name(f".{target.name}.writing")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        save_file(state, folder / target.name)
        os.replace(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_optimizer(directory: Path) -> dict[str, Tensor]:
    """Return the state of a policy's directory, on the CPU; {} where there never was one (a warm start).

    Raises InputError where a state was removed by retention, is not the file that the manifest lists, or was lost with
    the folder or memory that contained it: momentum would otherwise restart from zero without notice.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (directory / FORGOTTEN_FILE).exists():
        print(
            f"WARNING {directory}: {FORGOTTEN_FILE} exists, so the optimizer starts without a state.",
            file=sys.stderr,
            flush=True,
        )
        return {}
    refuse_removed(directory, weights=False, optimizer=True)
    file = directory / OPTIMIZER_FILE
    if file.is_symlink() and not file.exists():
        raise InputError(
            f"{file} points to {file.readlink()}, which is missing: a folder in memory is empty after a restart, and "
            f"is not shared between machines (retention.optimizer_folder). {_ways_out(directory)}"
        )
    try:
        require_file(directory, OPTIMIZER_FILE)
    except InputError as error:
        raise InputError(f"{error} {_forget(directory)}") from None
    if not file.is_file():
        return {}
    try:
        state: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: not a readable optimizer state ({error}). {_ways_out(directory)}") from error
    return state


def _ways_out(directory: Path) -> str:
    return f"{how_to_rebuild(directory)} {_forget(directory)}"


def _forget(directory: Path) -> str:
    return (
        "Or continue with an optimizer without state, which is a different experiment from the one that was started: "
        f"`touch {directory / FORGOTTEN_FILE}`."
    )
