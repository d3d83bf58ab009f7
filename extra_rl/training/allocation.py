"""The Slurm job that this process runs in, and the srun that spreads torchrun over its nodes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from extra_rl.errors import ConfigError

IDENTITY = ("SLURM_CLUSTER_NAME", "SLURM_CONF", "SLURM_JOBID", "SLURM_JOB_ID")
"""Variables that name the job. The rest describe the step that this process runs in: nodes, tasks and CPU masks, which
srun would take as defaults of the next step."""


@dataclass(frozen=True)
class Allocation:
    """A Slurm job: its id, and how many nodes and tasks Slurm has given it."""

    job: str
    nodes: int
    tasks: int

    @classmethod
    def present(cls) -> Self:
        """The job of this process, as slurmctld describes it. Raises ConfigError outside of a job.

        The variables SLURM_NNODES and SLURM_NTASKS do not tell: Snakemake runs every stage in a step of one task.
        """
        job = os.environ.get("SLURM_JOB_ID", "")
        if not job:
            raise ConfigError(
                "update.nodes is above 1, and this process is not in a Slurm job: set update.nodes: 1, or run it with "
                "workflow/profiles/slurm (docs/slurm.md)."
            )
        try:
            words = ["scontrol", "show", "job", "--oneliner", job]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            raise ConfigError(
                f"update.nodes is above 1, and `scontrol show job {job}` failed here: {str(reason).strip()}"
            ) from error
        nodes, tasks = (
            int(found[1]) if (found := re.search(rf"\b{key}=(\d+)", said)) else 1 for key in ("NumNodes", "NumTasks")
        )
        return cls(job, nodes, max(nodes, tasks))

    def srun(self, count: int, *, cpus: int, device: str) -> list[str]:
        """Return the words of the srun that starts one command `count` times, once on each node.

        On CPUs a job with fewer nodes but enough tasks runs several on a node. Raises ConfigError where the job has
        too few of both.

        Args:
            count: `update.nodes`.
            cpus: CPUs of each.
            device: `cpu` or `cuda`.
        """
        if self.nodes < count and (device != "cpu" or self.tasks < count):
            raise ConfigError(
                f"update.nodes is {count}, and Slurm job {self.job} has {self.nodes} node(s) and {self.tasks} task(s): "
                f"set `nodes: {count}` for the rule update under set-resources of the profile (on CPUs also `tasks: "
                f"{count}`), and take the rule out of its group (docs/slurm.md)."
            )
        nodes = max(n for n in range(1, min(self.nodes, count) + 1) if count % n == 0)
        words = [f"--nodes={nodes}", f"--ntasks={count}", f"--ntasks-per-node={count // nodes}"]
        # --overlap: Snakemake's own step of the job holds all of it. --cpus-per-task: else a task is bound to one CPU.
        return ["srun", "--overlap", "--kill-on-bad-exit=1", *words, f"--cpus-per-task={cpus}"]


def of_the_job(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those of the step that this process runs in."""
    return {
        name: value
        for name, value in variables.items()
        if name in IDENTITY or not name.startswith(("SLURM_", "SRUN_", "SBATCH_"))
    }
