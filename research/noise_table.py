"""The noise of the gradient as a table: a variant a row, each beside the run as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from extra_rl.tables import contracts
from research.noise import Products, interval, noise


def noise_table(variants: Mapping[str, Sequence[Products]]) -> pl.DataFrame:
    """`GradientNoise` from variant -> batches, one an iteration; relative figures are relative to the first variant."""
    first = next(iter(variants.values()))
    rows = []
    for name, batches in variants.items():
        found, own, relative = noise(batches), interval(batches), interval(batches, first)
        base = noise(first).ratio
        rows.append(
            {
                "variant": name,
                "iterations": len(batches),
                "groups": sum(len(batch.names_K) for batch in batches),
                "signal_groups": sum(int((batch.squared_K > 0).sum()) for batch in batches),
                "gradient_norm": math.sqrt(np.mean([batch.total for batch in batches])),
                **found._asdict(),
                "noise_ratio": found.ratio,
                **own._asdict(),
                "relative": found.ratio / base if found.ratio is not None and base else None,
                "relative_low": relative.low,
                "relative_high": relative.high,
            }
        )
    return pl.DataFrame(rows, schema=contracts.GradientNoise.create_empty().schema, strict=False)
