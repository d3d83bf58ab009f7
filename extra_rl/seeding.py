"""Seeds that depend on names, not on order.

Every random choice draws from a generator keyed by what it decides (experiment seed, purpose, iteration, group,
index), so that a stage that runs again, alone, or in another shard draws the same numbers. Source: our decision
(docs/method.md gives no seeding rule); keyed hashing rather than `seed + i`, because sums collide.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, *labels: str | int) -> int:
    """A 63-bit seed from an experiment seed and the names of what is being decided.

    `derive_seed(0, "generate", 3, "g5", 2)` is stable over machines, Python versions and processes.
    """
    text = "\x1f".join([str(seed), *(f"{type(label).__name__}:{label}" for label in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """A numpy generator (Philox, counter based) keyed by `derive_seed(seed, *labels)`."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *labels)))
