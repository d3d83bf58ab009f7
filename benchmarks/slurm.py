"""One small run on the Slurm of this machine, in every granularity, against the same run without Slurm.

    python benchmarks/slurm.py [--shards 1 2] [--granularities run group] [--json FILE]

Two arms, two iterations, the policy of tests/data/policy; workflow/profiles/slurm with less memory and two looks at the
queue a second. Local runs have the cores of the node (`--cores`), so arms run side by side in both. Printed per
granularity:
  jobs         Slurm jobs that the run submitted
  s/iteration  from the start of the first stage of the first iteration to the end of the last stage of the last one,
               by the stages' own records, divided by the iterations of an arm
  ratio        of that to the local run with the same shards
  wall s       of the whole command
  files equal  tables, policies and manifests with the bytes of the local run, and the summary without its times
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from extra_rl.run.records import records
from extra_rl.tables.files import file_digest

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "workflow" / "profiles" / "slurm" / "config.yaml"
GRANULARITIES = ("stage", "group", "iteration", "run", "run_by_iteration", "one_process")
IN_ONE_PROCESS = ("iteration", "run_by_iteration", "one_process")
ITERATIONS = 2
LOCAL = "local"
FILES = ("**/*.parquet", "**/policy/*.safetensors", "**/policy/manifest.json")


@dataclass(frozen=True)
class Row:
    """One run. jobs: 0 for a local one. equal, files: of the files of the local run with the same shards."""

    granularity: str
    shards: int
    jobs: int
    iteration_s: float
    ratio: float
    wall_s: float
    equal: int
    files: int

    def line(self) -> str:
        ratio = f"{self.ratio:.1f}" if self.ratio else "-"
        figures = (self.granularity, self.shards, self.jobs or "-", f"{self.iteration_s:.1f}", ratio)
        return " | ".join(map(str, ("", *figures, f"{self.wall_s:.0f}", f"{self.equal} of {self.files}", ""))).strip()


HEAD = "| granularity | shards | jobs | s/iteration | ratio | wall s | files equal |\n|---|---|---|---|---|---|---|"


def configuration(granularity: str, shards: int) -> dict[str, Any]:
    """tests/configs/mini.yaml with two iterations, after which both arms have spent their budget."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "configs" / "mini.yaml").read_text())
    config |= {"iterations": ITERATIONS, "generation": {"shards": shards}}
    config["select"]["token_budget"] = 1000
    config["model"]["source"] = str(ROOT / "tests" / "data" / "policy")
    return config | {"granularity": "stage" if granularity == LOCAL else granularity}


def write_profile(folder: Path) -> None:
    """The profile as it is shipped, with the memory that a small model needs and frequent looks at the queue."""
    profile = yaml.safe_load(PROFILE.read_text())
    profile["default-resources"] = ["runtime=20 * attempt", "mem_mb=400"]
    for wanted in profile["set-resources"].values():
        wanted |= {"mem_mb": 600} if "mem_mb" in wanted else {}
    profile["slurm-init-seconds-before-status-checks"] = 1
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))


def run(workdir: Path, granularity: str, shards: int, cores: int) -> tuple[float, int]:
    """Run the workflow; return the seconds it took and the number of Slurm jobs."""
    workdir.mkdir()
    (workdir / "config.yaml").write_text(yaml.safe_dump(configuration(granularity, shards), sort_keys=False))
    command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(workdir), "--configfile", str(workdir / "config.yaml")]
    if granularity == LOCAL:
        command += ["--cores", str(cores)]
    else:
        write_profile(workdir / "profile")
        command += ["--workflow-profile", str(workdir / "profile")]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{granularity}, {shards} shard(s): {done.stdout}{done.stderr}")
    return time.monotonic() - started, done.stderr.count("has been submitted with SLURM jobid")


def seconds_of_an_iteration(results: Path) -> float:
    """From the start of the first stage of iteration 0, in any arm, to the end of the last stage of the last one.

    The evaluation of the last policies is none of them.
    """
    found = records(results, "*/s*/iteration_*/*.run.json") + records(results, "*/s*/iteration_*/shards/*.run.json")
    stages = [record for record in found if not Path(record["path"]).name.startswith("evaluate")]
    times = [(datetime.fromisoformat(record["started"]).timestamp(), float(record["wall_s"])) for record in stages]
    return (max(start + wall for start, wall in times) - min(start for start, _ in times)) / ITERATIONS


def digests(results: Path) -> dict[str, str]:
    """File -> digest of its bytes; of the summary, its text without times."""
    paths = sorted(path for pattern in FILES for path in results.glob(pattern))
    found = {str(path.relative_to(results)): file_digest(path) for path in paths}
    summary = json.loads((results / "summary.json").read_text(), object_hook=without_times)
    return found | {"summary.json": json.dumps(summary, sort_keys=True)}


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if "second" not in key}


def cpus_of_a_node() -> int:
    """CPUs of the smallest node of the Slurm that is up."""
    words = ["sinfo", "--noheader", "--Node", "--format=%c"]
    return min(map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()))


def measure(folder: Path, granularities: Sequence[str], shards: int, cores: int) -> list[Row]:
    """The local run and those on Slurm, with a line for each as soon as it is there."""
    rows: list[Row] = []
    expected: dict[str, str] = {}
    for granularity in (LOCAL, *granularities):
        if shards > 1 and granularity in IN_ONE_PROCESS:
            continue  # an iteration in one process has no shards
        workdir = folder / f"{granularity}_{shards}"
        wall, jobs = run(workdir, granularity, shards, cores)
        results = workdir / "results" / "mini"
        found, iteration = digests(results), seconds_of_an_iteration(results)
        expected = expected or found
        equal = sum(found.get(name) == digest for name, digest in expected.items())
        files = len(expected.keys() | found.keys())
        ratio = iteration / rows[0].iteration_s if rows else 0.0
        rows.append(Row(granularity, shards, jobs, iteration, ratio, wall, equal, files))
        print(rows[-1].line(), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2], metavar="N", help="numbers of shards")
    parser.add_argument("--granularities", nargs="+", choices=GRANULARITIES, default=GRANULARITIES, help="which")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    given = parser.parse_args()
    cores = cpus_of_a_node()
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for shards in given.shards for row in measure(Path(folder), given.granularities, shards, cores)]
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if any(row.equal < row.files for row in rows):
        sys.exit("Some files differ from those of the local run.")


if __name__ == "__main__":
    main()
