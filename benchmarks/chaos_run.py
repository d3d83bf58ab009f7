"""One run of benchmarks/chaos.py: kills of its processes, the same command again, and what is left at the end."""

from __future__ import annotations

import filecmp
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.chaos_processes import (
    MARK,
    deliver,
    described,
    hit_by,
    is_alive,
    kill_all,
    marked,
    stacks,
    survivors,
    words_of,
)
from extra_rl.run.claim import is_free
from extra_rl.tracking.store import read_records

ROOT = Path(__file__).parents[1]
NAME = "chaos"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = ("*.run.json", "*.log", ".checked.json", ".lock", "summary.json", "report.html", "tracking/run.json")
"""Files in the results that hold times, process numbers or random names: only their names are compared."""
MADE_BY_LIBRARIES = "torchinductor_"
"""What torch makes in TMPDIR when it is imported, in every run."""
APPEARANCE_SECONDS, SETTLE_SECONDS, LEAST_SECONDS, WHOLE_SECONDS, POLL_SECONDS = 30.0, 3.0, 8.0, 600.0, 0.1
GONE_SECONDS = 20.0
LATEST = 0.5
"""A kill comes after this share of the time that the run still needs, at most."""
HANGS = -1000
"""Stands for the exit code of a command that did not end."""

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"tracking": ["jsonl"]},
    "shards": {"generation": {"shards": 2}},
    "fused": {"granularity": "iteration", "retention": {"optimizer_states": 2}},
    "engine": {"sampling": {"temperature": 1.0, "max_response_tokens": 64, "backend": "vllm"}},
}
"""Changes to the configuration, by the name of the variant."""


def configuration(variant: str) -> dict[str, Any]:
    """The configuration of a run: tests/configs/mini.yaml with two iterations, changed as the variant says."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "configs" / "mini.yaml").read_text())
    config |= {"name": NAME, "iterations": 2}
    config["model"]["source"] = str(ROOT / "tests" / "data" / "policy")
    config["select"]["token_budget"] = 1000
    return config | dict(VARIANTS[variant])


@dataclass(frozen=True)
class Kill:
    """One kill that was drawn. moment: share of the time that the command would still need."""

    moment: float
    signal: signal.Signals
    target: str


@dataclass
class Delivered:
    """What came of a kill.

    Args:
        after_s: seconds from the start of the command to the signal.
        hit: whether a living process of this kind got the signal.
        end_s: seconds from the signal to the end of the command, which may be after further kills.
        code: exit code of the command.
        traceback: whether the command printed a traceback.
    """

    signal: str
    target: str
    after_s: float = 0.0
    hit: bool = False
    end_s: float = 0.0
    code: int | None = None
    traceback: bool = False


@dataclass
class Outcome:
    """One run from its first command to its end.

    Args:
        variant: of the configuration.
        kills: in their order.
        seconds: wall time of all its commands.
        faults: what is wrong at the end, or went wrong on the way; none for a run that survived.
        outputs: what the commands printed.
    """

    variant: str
    kills: list[Delivered] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @property
    def hits(self) -> int:
        return sum(kill.hit for kill in self.kills)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | ({} if self.faults else {"outputs": []})


def draw(random_: random.Random, targets: Sequence[str], most: int) -> list[Kill]:
    """Draw the kills of one run: `most`, or down to half of it."""
    return [
        Kill(random_.uniform(0.02, LATEST), random_.choice(SIGNALS), random_.choice(list(targets)))
        for _ in range(random_.randint(max(1, most // 2), most))
    ]


class ChaosRun:
    """A working directory in which one command is typed until the run has ended.

    Args:
        workdir: created; temporary files and caches of all processes lie in it, but for sockets, which lie in /tmp.
        expected: working directory of a finished run of the same variant; None for that run itself.
        expected_s: wall time of that run.
    """

    def __init__(self, workdir: Path, variant: str, expected: Path | None, expected_s: float) -> None:
        self.workdir, self.expected, self.expected_s = workdir, expected, expected_s
        self.results = workdir / "results" / NAME
        self.outcome = Outcome(variant)
        self._sockets: set[Path] = set()
        for folder in (workdir / "tmp", workdir / "cache"):
            folder.mkdir(parents=True)
        self._config = workdir / "config.yaml"
        self._config.write_text(yaml.safe_dump(configuration(variant), sort_keys=False))

    def until_finished(self, kills: Iterable[Kill] = ()) -> Outcome:
        """Type the command until the run has ended, with the kills one after the other; record what came of it."""
        left, code = list(kills), 1
        while left and code not in (0, HANGS):
            code = self._disturbed(left)
        if code != 0:
            code = self._disturbed([])
            if code != 0:
                self.outcome.faults.append(f"the undisturbed command ended with exit code {code}")
        self.outcome.faults += self._left_behind()
        if self.expected is not None and code == 0:
            self.outcome.faults += differences(self.expected / "results" / NAME, self.results)
        return self.outcome

    def _disturbed(self, kills: list[Kill]) -> int:
        """Run the command once, and take kills from the list while it runs; return its exit code, HANGS if it hung."""
        begin = time.monotonic()
        output = self.workdir / f"output-{len(self.outcome.outputs)}.txt"
        with output.open("wb") as handle:
            process = subprocess.Popen(
                self._command(), stdout=handle, stderr=handle, env=self._environment(), start_new_session=True
            )
        family: set[psutil.Process] = set()
        done: list[Delivered] = []
        while kills and process.poll() is None:
            kill = kills.pop(0)
            self._wait(process, family, kill.moment * max(LEAST_SECONDS, self.expected_s * (1 - self._share_done())))
            found = self._find(process, family, kill.target)
            hit = deliver(found, kill.signal)
            done.append(Delivered(kill.signal.name, kill.target, after_s=time.monotonic() - begin, hit=hit))
            self._wait(process, family, SETTLE_SECONDS)
        self._wait(process, family, max(WHOLE_SECONDS, 4 * self.expected_s))
        code = process.poll()
        if code is None:
            self.outcome.faults.append(f"hangs after {done}: {stacks(process.pid)}")
            kill_all(marked(str(self.workdir)))
            process.wait()
            code = HANGS
        seconds = time.monotonic() - begin
        text = output.read_text(errors="replace")
        self.outcome.seconds += seconds
        self.outcome.outputs.append(text)
        for kill_ in done:
            kill_.end_s, kill_.code = seconds - kill_.after_s, code
            kill_.traceback = "Traceback (most recent call last)" in text
        self.outcome.kills += done
        alive = survivors([p for p in family if p.pid != process.pid], GONE_SECONDS)
        if alive:
            self.outcome.faults.append(f"alive {GONE_SECONDS:.0f} s after the end of {done}: {described(alive)}")
            kill_all(alive)
        return code

    def _command(self) -> list[str]:
        command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
        return [*command, "--directory", str(self.workdir), "--configfile", str(self._config), "--cores", "2"]

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("EXTRA_")}
        places = {"TMPDIR": str(self.workdir / "tmp"), "XDG_CACHE_HOME": str(self.workdir / "cache")}
        return own | places | {MARK: str(self.workdir)}

    def _share_done(self) -> float:
        if self.expected is None:
            return 0.0
        count, whole = (sum(1 for _ in place.rglob("*.parquet")) for place in (self.workdir, self.expected))
        return count / max(whole, 1)

    def _wait(self, process: subprocess.Popen[bytes], family: set[psutil.Process], seconds: float) -> None:
        """Wait until the process ends, at most so long, and note its descendants and their sockets meanwhile."""
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            self._note(process, family)
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    def _note(self, process: subprocess.Popen[bytes], family: set[psutil.Process]) -> None:
        with suppress(psutil.Error):
            new = set(psutil.Process(process.pid).children(recursive=True)) - family
            family |= new
            for words in map(words_of, new):
                if "--socket" in words:
                    self._sockets.add(Path(words[words.index("--socket") + 1]))

    def _find(self, process: subprocess.Popen[bytes], family: set[psutil.Process], target: str) -> list[psutil.Process]:
        """The processes to kill, as soon as there is one, within APPEARANCE_SECONDS; [] where none appears."""
        deadline = time.monotonic() + APPEARANCE_SECONDS
        while process.poll() is None:
            self._note(process, family)
            with suppress(psutil.Error):
                found = hit_by(target, psutil.Process(process.pid), [p for p in family if is_alive(p)])
                if found:
                    return found
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS / 10)
        return []

    def _left_behind(self) -> list[str]:
        """What no finished run may leave: processes, locks, sockets, temporary files."""
        faults = []
        if alive := marked(str(self.workdir)):
            faults.append(f"processes left: {described(alive)}")
            kill_all(alive)
        lock = self.results / ".lock"
        if lock.exists() and not is_free(lock):
            faults.append(f"{lock} is held")
        left = [path for path in self._sockets if path.parent.exists()]
        left += [path for place in ("tmp", "cache") for path in leaves(self.workdir / place)]
        records = self.workdir / ".snakemake"
        left += [path for name in ("incomplete", "locks", "shadow", "auxiliary") for path in leaves(records / name)]
        left += [path for path in records.rglob("*") if "tmp" in path.name]
        left += [path for path in self.results.rglob("*") if re.search(r"^\..*tmp|\.aside-|^\.nfs", path.name)]
        faults += [f"left: {path}" for path in left]
        return faults


def leaves(folder: Path) -> list[Path]:
    """Files and empty folders below a folder, without the empty folders that Snakemake makes for its caches."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or not any(path.iterdir()))
        and not path.name.endswith("cache")
        and not path.name.startswith(MADE_BY_LIBRARIES)
    ]


def differences(expected: Path, found: Path) -> list[str]:
    """How the results of a run differ from those of an undisturbed one: names of files, and bytes but of TIMES."""
    names = [{path.relative_to(place) for path in place.rglob("*") if path.is_file()} for place in (expected, found)]
    faults = [f"missing: {name}" for name in sorted(names[0] - names[1])]
    faults += [f"left: {name}" for name in sorted(names[1] - names[0])]
    for name in sorted(names[0] & names[1]):
        if name.suffix == ".jsonl":
            keys = [[record.key for record in read_records(place / name)] for place in (expected, found)]
            same = sorted(keys[0]) == sorted(keys[1])  # each record once
        else:
            times = any(name.match(pattern) for pattern in TIMES)
            same = times or filecmp.cmp(expected / name, found / name, shallow=False)
        if not same:
            faults.append(f"differs: {name}")
    return faults


def discard(workdir: Path) -> None:
    """Remove the working directory of a run."""
    shutil.rmtree(workdir)
