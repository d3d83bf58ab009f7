"""Problems from the Hugging Face hub, read by the `datasets` library, without running any code of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from extra_rl.config.sections import SourceConfig

TIMEOUT_S = 10.0

LOCALLY = (
    "To read local files instead, set task.folder to a directory that holds <name>.parquet, or give the source a `path`"
)


def load(source: SourceConfig) -> tuple[pl.DataFrame, str | None]:
    """All columns of a data set's split, and the commit that they were read from.

    The commit is asked for first, which takes no time and tells whether the hub can be reached; it is null for a local
    directory and in offline mode (HF_HUB_OFFLINE=1, which reads the library's cache). Raises InputError with what to
    do instead where the data set cannot be had.
    """
    import datasets
    import polars as pl

    name = source.dataset or ""
    commit = None if Path(name).is_dir() else newest_commit(name, source.revision)
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, source.subset, split=source.split, revision=commit or source.revision)
    except Exception as error:  # the library, its formats and its transport each have errors of their own
        raise InputError(
            f"{name}{_place(source)}: cannot be read as a data set of the hub ({_first_line(error)}). Check dataset, "
            f"subset, split and revision. {LOCALLY}."
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    frame = loaded.to_polars()
    assert isinstance(frame, pl.DataFrame)
    return frame, commit


def newest_commit(name: str, revision: str | None) -> str | None:
    """The commit that a revision (null: the newest) of a data set stands for; null in offline mode."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S).sha
    except OfflineModeIsEnabled:
        return None
    except Exception as error:  # errors of the hub, and of the transport, which is not ours to name
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
