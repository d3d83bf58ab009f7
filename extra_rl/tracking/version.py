"""The version of the code, for the configuration of a tracked run."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

GIT_SECONDS = 10.0


def code_version() -> dict[str, str]:
    """Return the version of the package, and in a checkout the commit, with `+changes` where files differ from it."""
    found = {"version": importlib.metadata.version("extra-rl")}
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or (commit := _git(root, "rev-parse", "HEAD")) is None:
        return found
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {**found, "commit": commit + ("+changes" if changes else "")}


def _git(root: Path, *words: str) -> str | None:
    """The output of a git command; None where it fails, or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
