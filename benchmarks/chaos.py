"""Kills runs at random moments, types the same command again, and compares every file with an undisturbed run.

    python benchmarks/chaos.py --kills 200 --json chaos.json

A run has two arms and two iterations on the policy of tests/data/policy, and takes seconds. Its variants are: one job
a stage with a tracker, sampling in two shards, and one job an iteration. Each kill is SIGKILL, SIGTERM or SIGINT to one
of:
  group       what Ctrl-C on a terminal reaches: Snakemake, its shells and the stages' commands
  snakemake   Snakemake alone
  worker      the warm worker
  job         a stage, which is a child of the worker
  client      the command `python -m stages`, which waits for its job
  everything  all of them at once, as when the machine or its container is stopped
  engine      the server of vLLM; only where vLLM is installed
A run takes up to --most kills, so resumed runs are hit as well. The kills follow from --seed, but not their moments to
the millisecond. A run has survived if the last command ends with exit code 0, all tables, weights and manifests have
the bytes of the undisturbed run, every process ended soon after each kill, and nothing is left at the end: no process,
lock, socket, temporary file or folder.
Exit code 1: a run has not survived; its folder is kept, and its path printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chaos_processes import ENGINE, TARGETS
from benchmarks.chaos_run import SIGNALS, ChaosRun, Outcome, discard, draw

VARIANTS = ("plain", "shards", "fused")
FAULTS_SHOWN = 3


def targets_here() -> list[str]:
    """The targets that can be drawn on this machine."""
    return [*TARGETS, *([ENGINE] if importlib.util.find_spec("vllm") else [])]


def variants_here() -> list[str]:
    return [*VARIANTS, *([ENGINE] if importlib.util.find_spec("vllm") else [])]


class Chaos:
    """Disturbed runs, several at a time, until enough kills have hit.

    Args:
        folder: of the working directories.
        seed: from which every run's kills are drawn, with the number of the run.
        most: number of kills that one run takes.
        slots: how many runs go on at the same time.
        variants: of the configuration, in turn.
    """

    def __init__(self, folder: Path, seed: int, most: int, slots: int, variants: Sequence[str]) -> None:
        self.folder, self.seed, self.most, self.slots = folder, seed, most, slots
        self.variants = tuple(variants)
        self.expected: dict[str, Future[tuple[Path, float]]] = {}
        self.outcomes: list[Outcome] = []
        self._lock = threading.Lock()

    @property
    def hits(self) -> int:
        return sum(outcome.hits for outcome in self.outcomes)

    def until(self, kills: int, minutes: float) -> None:
        """Run each variant undisturbed, then disturb runs of the variants in turn until enough kills have hit.

        minutes: after that time no further run begins.
        """
        deadline = time.monotonic() + 60 * minutes
        numbers = iter(range(1_000_000))

        def slot() -> None:
            while True:
                with self._lock:
                    if self.hits >= kills or time.monotonic() > deadline:
                        return
                    number = next(numbers)
                outcome = self.one(number)
                with self._lock:
                    self.outcomes.append(outcome)
                    print(line(number, outcome, self.hits), flush=True)

        with ThreadPoolExecutor(self.slots) as pool:
            self.expected = {variant: pool.submit(self.undisturbed, variant) for variant in self.variants}
            for ended in [pool.submit(slot) for _ in range(self.slots)]:
                ended.result()

    def undisturbed(self, variant: str) -> tuple[Path, float]:
        """Run a variant without a kill: its working directory and its seconds, to compare with."""
        run = ChaosRun(self.folder / variant, variant, None, 0.0)
        outcome = run.until_finished()
        if outcome.faults:
            raise RuntimeError(f"the undisturbed run {run.workdir} failed: {outcome.faults}\n{outcome.outputs[-1]}")
        print(f"{variant}: undisturbed {outcome.seconds:.1f} s", flush=True)
        return run.workdir, outcome.seconds

    def one(self, number: int) -> Outcome:
        """The disturbed run of this number."""
        random_ = random.Random(f"{self.seed} {number}")
        variant = self.variants[number % len(self.variants)]
        targets = [target for target in targets_here() if target != ENGINE or variant == ENGINE]
        run = ChaosRun(self.folder / f"run-{number:04d}", variant, *self.expected[variant].result())
        outcome = run.until_finished(draw(random_, targets, self.most))
        if not outcome.faults:
            discard(run.workdir)
        return outcome


def line(number: int, outcome: Outcome, hits: int) -> str:
    kills = ", ".join(f"{k.signal} {k.target}{'' if k.hit else ' (none there)'}" for k in outcome.kills)
    end = "survived" if not outcome.faults else "; ".join(outcome.faults[:FAULTS_SHOWN])
    return f"run {number} ({outcome.variant}): {kills} | {outcome.seconds:.1f} s, {end} | {hits} kills"


def lost_seconds(outcome: Outcome, undisturbed_s: float) -> float:
    """Mean of one run: seconds that each of its kills cost."""
    return (outcome.seconds - undisturbed_s) / outcome.hits


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Markdown: one row for each signal and target."""
    lines = [
        "| signal | target | drawn | hit | runs survived | command ended after (median, longest) | tracebacks |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target in [*TARGETS, ENGINE]:
        for how in SIGNALS:
            cell = [(o, k) for o in outcomes for k in o.kills if (k.signal, k.target) == (how.name, target)]
            hit = [(o, k) for o, k in cell if k.hit]
            if not cell:
                continue
            ends = [k.end_s for _, k in hit]
            shown = f"{statistics.median(ends):.1f} s, {max(ends):.1f} s" if ends else ""
            survived = sum(not o.faults for o, _ in hit)
            traces = sum(k.traceback for _, k in hit)
            lines.append(f"| {how.name} | {target} | {len(cell)} | {len(hit)} | {survived} | {shown} | {traces} |")
    return lines


def totals(outcomes: Sequence[Outcome], undisturbed: dict[str, float]) -> dict[str, Any]:
    """The figures of all runs together."""
    hit = [outcome for outcome in outcomes if outcome.hits]
    lost = sorted(lost_seconds(o, undisturbed[o.variant]) for o in hit for _ in range(o.hits))
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    left = ("left", "processes left", "alive", "lock")
    return {
        "runs": len(outcomes),
        "runs that were hit": len(hit),
        "kills drawn": sum(len(outcome.kills) for outcome in outcomes),
        "kills that hit a living process": sum(outcome.hits for outcome in outcomes),
        "most kills of one run": max((outcome.hits for outcome in outcomes), default=0),
        "runs that survived": sum(not outcome.faults for outcome in outcomes),
        "files that differ or are missing": sum(fault.startswith(("differs", "missing")) for fault in faults),
        "left behind": sum(fault.startswith(left) for fault in faults),
        "seconds lost per kill, median": round(statistics.median(lost), 1) if lost else None,
        "seconds lost per kill, 90th percentile": round(lost[int(0.9 * (len(lost) - 1))], 1) if lost else None,
        "undisturbed seconds": {variant: round(seconds, 1) for variant, seconds in undisturbed.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many must hit a living process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=16, help="number of kills that one run takes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after that time no further run begins")
    parser.add_argument("--slots", type=int, default=2, help="runs at the same time; each uses up to two cores")
    parser.add_argument("--variants", default=",".join(variants_here()), help="comma-separated")
    parser.add_argument("--json", type=Path, help="file for all kills and outcomes")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    begin = time.monotonic()
    chaos = Chaos(folder, options.seed, options.most, options.slots, options.variants.split(","))
    if ENGINE not in targets_here():
        print("engine: not drawn, vLLM is not installed here", flush=True)
    chaos.until(options.kills, options.minutes)
    found = totals(chaos.outcomes, {variant: ended.result()[1] for variant, ended in chaos.expected.items()})
    print("\n".join(["", *table(chaos.outcomes), "", *(f"{name}: {value}" for name, value in found.items())]))
    print(f"wall time: {time.monotonic() - begin:.0f} s")
    if options.json:
        runs = [outcome.to_json() for outcome in chaos.outcomes]
        options.json.write_text(json.dumps({"seed": options.seed, "totals": found, "runs": runs}, indent=1) + "\n")
    if any(outcome.faults for outcome in chaos.outcomes):
        print(f"runs that did not survive are in {folder}")
        return 1
    discard(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
