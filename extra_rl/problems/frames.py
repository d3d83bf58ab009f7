"""Rows of frames: of Parquet files, and of directories that the library `datasets` saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extra_rl.errors import InputError

if TYPE_CHECKING:
    import polars as pl

SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files of a directory that `datasets` wrote with `save_to_disk`."""


def is_saved(path: Path) -> bool:
    """Return whether a directory was written by `save_to_disk` of the library `datasets`."""
    return any((path / name).is_file() for name in SAVED)


def load_saved(path: str, split: str) -> list[dict[str, object]]:
    """Return the rows of a directory that `datasets` wrote with `save_to_disk`.

    split: of a directory that holds several; one that holds a single data set has none. Raises InputError for an
    unknown split and for files that are damaged or missing.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(path)
        splits = list(loaded) if isinstance(loaded, datasets.DatasetDict) else None
        if splits is None or split in splits:
            return rows_of_frame((loaded if splits is None else loaded[split]).to_polars())
    except Exception as error:  # the library and Arrow each have their own errors
        raise InputError(
            f"{path}: not a readable directory of the library datasets ({type(error).__name__}: {first_line(error)}). "
            "Save it again with `save_to_disk`."
        ) from error
    raise InputError(f"{path}: has no split {split}; it has {', '.join(splits)}. Set `split` of this source.")


def rows_of_frame(frame: pl.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a frame. Numbers in single precision keep their shortest decimal: 0.1 stays 0.1."""
    import polars as pl

    for name, kind in frame.schema.items():
        text, double = _with_member(kind, pl.String()), _with_member(kind, pl.Float64())
        if text != kind:
            frame = frame.with_columns(pl.col(name).cast(text).cast(double))
    return frame.to_dicts()


def _with_member(kind: pl.DataType, wanted: pl.DataType) -> pl.DataType:
    """The type with `wanted` for every number in single precision, within lists and structs too."""
    import polars as pl

    if kind == pl.Float32:
        return wanted
    if isinstance(kind, pl.List):
        return pl.List(_with_member(kind.inner, wanted))  # type: ignore[arg-type]
    if isinstance(kind, pl.Array):
        return pl.Array(_with_member(kind.inner, wanted), kind.size)  # type: ignore[arg-type]
    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: _with_member(field.dtype, wanted) for field in kind.fields})  # type: ignore[arg-type]
    return kind


def first_line(error: Exception) -> str:
    """Return the first line of an error of a library, at most 300 characters; its type where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
