"""The command `extra`. Training is Snakemake's part; here is what looks at results, plans, checks and evaluates.

A new command is one file in this folder with `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`, and its
name in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

from extra_rl.errors import ExtraError

COMMANDS = (
    "init",
    "show",
    "compare",
    "doctor",
    "evaluate",
    "audit",
    "check-golds",
    "plan",
    "report",
    "explain",
    "counterfactual",
    "prefix-signal",
    "gradient-noise",
)


def main(argv: list[str] | None = None) -> int:
    """Entry point; a user's error is one message on standard error."""
    parser = argparse.ArgumentParser(prog="extra", description=(__doc__ or "").splitlines()[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = module_of(name)
        module.add_arguments(
            subparsers.add_parser(
                name,
                help=module.HELP,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    arguments = parser.parse_args(argv)
    try:
        exit_code: int = module_of(arguments.command).run(arguments)
    except ExtraError as error:
        print(f"extra {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    return exit_code


def module_of(name: str) -> ModuleType:
    """The module of a command; its heavy imports happen in `run`."""
    return importlib.import_module(f"extra_cli.{name.replace('-', '_')}")


if __name__ == "__main__":
    sys.exit(main())
