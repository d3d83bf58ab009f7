"""Seeds that depend on names, not on order.

Every random choice draws from a generator keyed by its purpose (experiment seed, stage, iteration, group, index), so
that a stage draws the same numbers when it runs again, alone, or in another shard. Source: our decision
(docs/method.md gives no seeding rule); keyed hashing instead of `seed + i`, because sums collide.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed from an experiment seed and labels that name the decision.

    `derive_seed(0, "generate", 3, "g5", 2)` is the same on all machines, in all Python versions and processes.
    """
    text = "\x1f".join([str(seed), *(f"{type(label).__name__}:{label}" for label in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """Return a numpy generator (Philox, counter-based) keyed by `derive_seed(seed, *labels)`."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *labels)))
