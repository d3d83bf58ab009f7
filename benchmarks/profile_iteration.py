"""Where the time of one iteration goes: stage by stage, and how much of it is spent in matrix products.

    python benchmarks/profile_iteration.py results/smollm2/mixed-grpo/s0/iteration_0001 [--threads 2]

Stages of a finished iteration run again from the cached files that they once read, in this process, under torch's
profiler; what they write goes to a temporary folder. Printed for every stage: seconds (of the process that waits, all
threads together), the share of it in matrix products (linear layers and attention, forward and backward), and the five
other operations that took most. Loading, the probe of the model and writing are included, imports are not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGES = (
    ("generate", "generate"),
    ("verify", "verify_generate"),
    ("score_entropy", "score_entropy_generate"),
    ("choose_prefixes", "choose_prefixes"),
    ("regenerate", "regenerate"),
    ("score_entropy", "score_entropy_regenerate"),
    ("novelty", "novelty"),
    ("advantage", "advantage"),
    ("update", "update"),
    ("summarize", "summarize"),
)
PRODUCTS = (
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::baddbmm",
    "aten::_scaled_dot_product",
    "aten::_flash_attention",
)
"""How the names of operations begin that are matrix products or attention."""


def profiled(stage: str, table: Path, threads: int) -> tuple[float, float, list[tuple[str, float]]]:
    """Seconds of a stage, its seconds in matrix products, and the other operations with theirs, longest first."""
    from torch.profiler import ProfilerActivity, profile

    from stages.command import main

    with tempfile.TemporaryDirectory() as folder:
        words = [stage, "--rerun", str(table), "--to", folder]
        if stage not in ("verify", "advantage", "summarize"):
            words += ["--set", f"compute.threads={threads}"]
        started = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            if main(words):
                sys.exit(f"{stage} failed")
        seconds = time.perf_counter() - started
    times: dict[str, float] = {}
    event: Any
    for event in profiler.key_averages():
        times[event.key] = times.get(event.key, 0.0) + event.self_cpu_time_total / 1e6
    products = sum(spent for name, spent in times.items() if name.startswith(PRODUCTS))
    others = sorted(
        ((name, spent) for name, spent in times.items() if not name.startswith(PRODUCTS)), key=lambda o: -o[1]
    )
    return seconds, products, others


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("iteration", type=Path, help="folder of a finished iteration")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--only", help="tables, for example generate,update; default: all")
    options = parser.parse_args()
    import stages.score_entropy
    import stages.update  # noqa: F401  imports are no part of a stage here

    total = in_products = 0.0
    for stage, table in STAGES:
        if options.only and table not in options.only.split(","):
            continue
        seconds, products, others = profiled(stage, options.iteration / f"{table}.parquet", options.threads)
        total, in_products = total + seconds, in_products + products
        rest = ", ".join(f"{name.removeprefix('aten::')} {spent:.2f}" for name, spent in others[:5] if spent >= 0.01)
        print(f"{table:28} {seconds:7.2f} s  matrix products {products / seconds:5.1%}   {rest}", flush=True)
    print(f"{'all':28} {total:7.2f} s  matrix products {in_products / total:5.1%}")


if __name__ == "__main__":
    main()
