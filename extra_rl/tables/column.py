"""Kinds of columns of the contracts: each has a type, a unit and one sentence about its content."""

from __future__ import annotations

import dataframely as dy


def text(what: str, **options: object) -> dy.String:
    """Text."""
    return dy.String(metadata={"about": what}, **options)  # type: ignore[arg-type]


def key(what: str) -> dy.String:
    """Text that is the key of the table, or a part of it."""
    return dy.String(primary_key=True, min_length=1, metadata={"about": what})


def number(what: str, unit: str = "", **options: object) -> dy.Float32:
    """A float32."""
    return dy.Float32(metadata={"about": what, "unit": unit}, **options)  # type: ignore[arg-type]


def count(what: str, unit: str = "", **options: object) -> dy.Int64:
    """A whole number of 0 or more."""
    return dy.Int64(min=0, metadata={"about": what, "unit": unit}, **options)  # type: ignore[arg-type]


def tokens(what: str, **options: object) -> dy.List:
    """Token ids (int32)."""
    return dy.List(dy.Int32(min=0), metadata={"about": what, "unit": "token ids"}, **options)  # type: ignore[arg-type]


def per_token(what: str, unit: str, **options: object) -> dy.List:
    """A list of float32: one for each token, or a vector."""
    return dy.List(dy.Float32(), metadata={"about": what, "unit": unit}, **options)  # type: ignore[arg-type]


def numbers(what: str) -> dy.List:
    """Named numbers: a list of {name, value}; null for none."""
    inner = dy.Struct({"name": dy.String(), "value": dy.Float64()})
    return dy.List(inner, nullable=True, metadata={"about": what})


def large(what: str, unit: str, **options: object) -> dy.Float64:
    """A float64 of 0 or more, for numbers that a float32 does not hold exactly."""
    return dy.Float64(min=0.0, metadata={"about": what, "unit": unit}, **options)  # type: ignore[arg-type]


def tolerance(what: str) -> dy.Float64:
    """An allowed error: a float64 of 0 or more."""
    return dy.Float64(min=0.0, metadata={"about": what})


def one_of(values: list[str], what: str, **options: object) -> dy.Enum:
    """One of these values."""
    return dy.Enum(values, metadata={"about": what}, **options)  # type: ignore[arg-type]


def flag(what: str) -> dy.Bool:
    """True or false."""
    return dy.Bool(metadata={"about": what})
