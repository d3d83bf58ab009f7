"""A judge for structured answers: the response must be JSON with the key `answer`, which holds the reference answer.

    snakemake --snakefile ../../workflow/Snakefile --cores 2 --configfile json_key.yaml

docs/rewards.md explains the lines. The response is text of a model: it is parsed, never evaluated.
"""

from __future__ import annotations

import json


def score(reference: str, response: str) -> dict[str, float]:
    """Return `json` (1 for JSON), `key` (1 for an object with the key), and `correct` (1 for the reference answer)."""
    try:
        found = json.loads(response)
    except (ValueError, RecursionError):
        return {"correct": 0, "json": 0, "key": 0}
    if not isinstance(found, dict) or "answer" not in found:
        return {"correct": 0, "json": 1, "key": 0}
    return {"correct": float(str(found["answer"]).strip() == reference.strip()), "json": 1, "key": 1}
