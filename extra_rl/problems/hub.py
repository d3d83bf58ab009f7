"""Rows from the Hugging Face hub or a directory that `datasets` saved, without running any code of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import InputError
from extra_rl.problems.files import Row
from extra_rl.problems.frames import is_saved, load_saved, rows_of_frame

if TYPE_CHECKING:
    from extra_rl.config.sections import SourceConfig

TIMEOUT_S = 10.0

LOCALLY = (
    "To read local files instead, set task.folder to a directory that holds <name>.parquet, or give the source a `path`"
)


def load(source: SourceConfig) -> tuple[list[Row], str | None]:
    """Return all rows of a data set's split, and the commit that they were read from.

    The commit is requested first, which takes no time and shows whether the hub can be reached. It is null for a local
    directory and in offline mode (HF_HUB_OFFLINE=1, which reads the library's cache). Raises InputError with what to
    do instead where the data set cannot be read.
    """
    import datasets

    name = source.dataset or ""
    if is_saved(Path(name)):
        return load_saved(name, source.split), None
    commit = None if Path(name).is_dir() else newest_commit(name, source.revision)
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, source.subset, split=source.split, revision=commit or source.revision)
        rows: list[Row] = rows_of_frame(loaded.to_polars())
        return rows, commit
    except Exception as error:  # the library, its formats and its transport each have their own errors
        raise InputError(
            f"{name}{_place(source)}: cannot be read as a data set of the hub ({_first_line(error)}). Check dataset, "
            f"subset, split and revision. {LOCALLY}."
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()


def newest_commit(name: str, revision: str | None) -> str | None:
    """Return the commit of a revision (null: the newest) of a data set, None in offline mode. Raises InputError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S).sha
    except OfflineModeIsEnabled:
        return None
    except Exception as error:  # of the hub, and of the transport that it uses
        raise InputError(
            f"{name}: no such data set or revision on the Hugging Face hub, or no way to reach the hub "
            f"({_first_line(error)}). {LOCALLY}; HF_HUB_OFFLINE=1 reads what was downloaded before."
        ) from error


def _place(source: SourceConfig) -> str:
    parts = (("subset", source.subset), ("split", source.split), ("revision", source.revision))
    return "".join(f", {key} {value}" for key, value in parts if value)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
