"""What the probe costs in a finished run: its share of the stages that load a model.

    python benchmarks/probe.py results/tiny

Printed for each stage: runs, median wall-seconds of the stage and of its probe, and the share of all its seconds that
were the probe's. `whole`: runs in which the paths were not known from an earlier policy.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    runs: dict[str, list[tuple[float, float, bool]]] = {}
    for path in sorted(Path(sys.argv[1]).rglob("*.run.json")):
        record = json.loads(path.read_text())
        models = record.get("models") or []
        if models:
            known = all(decision["known"] for model in models for decision in model["decisions"].values())
            seconds = sum(model["seconds"] for model in models)
            runs.setdefault(path.name.removesuffix(".run.json"), []).append((record["wall_s"], seconds, known))
    if not runs:
        sys.exit(f"{sys.argv[1]}: no stage of this run has probed a model.")
    print(f"{'stage':<28} {'runs':>5} {'whole':>6} {'stage s':>8} {'probe s':>8} {'share':>6}")
    for stage, found in sorted(runs.items()):
        walls, probes, known = zip(*found, strict=True)
        share = sum(probes) / sum(walls)
        medians = f"{statistics.median(walls):>8.3f} {statistics.median(probes):>8.3f}"
        print(f"{stage:<28} {len(found):>5} {known.count(False):>6} {medians} {share:>6.1%}")
    walls, probes, _ = zip(*(run for found in runs.values() for run in found), strict=True)
    print(f"{'all':<28} {len(walls):>5} {'':>6} {'':>8} {'':>8} {sum(probes) / sum(walls):>6.1%}")


if __name__ == "__main__":
    main()
