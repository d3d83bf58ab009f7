"""The commands of the studies from a checkout, without an installed package.

python -m extra_research prefix-signal results/tiny/extra/s0/iteration_0003
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from extra_cli.main import run_command

COMMANDS = ("counterfactual", "evidence", "gradient-noise", "prefix-signal")
"""As in the entry points of pyproject.toml."""


def modules() -> dict[str, ModuleType]:
    """Return name -> module of every command."""
    return {name: importlib.import_module(f"extra_research.commands.{name.replace('-', '_')}") for name in COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    about = "Offline studies of finished iterations; `extra` has the same commands."
    return run_command("python -m extra_research", about, modules(), sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
