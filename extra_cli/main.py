"""Start, plan, inspect, check and evaluate runs of ExTra. `extra run` starts one, or `snakemake` itself.

A command is one file in this folder with `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`, and its
name in `COMMANDS`. Any installed package adds such a module as a command by an entry point in the group
`extra.commands`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from types import ModuleType

from extra_rl.errors import ConfigError, ExtraError
from extra_rl.worker import tether

COMMANDS = (
    "init",
    "run",
    "new",
    "show",
    "watch",
    "compare",
    "doctor",
    "evaluate",
    "audit",
    "check-answers",
    "data",
    "plan",
    "report",
    "explain",
    "check",
    "slurm",
    "fork",
    "export",
    "import",
)
FIRST = """\
Type first:
  extra doctor                      does this machine have what a run needs?
  extra plan config/tiny.yaml       what does a configuration cost at most?
  extra run config/tiny.yaml -n     which jobs would run? Without -n they run.

"""
"""Part of the help."""
FILES = {"import": "import_rollouts"}
"""Command -> file of another name: `import` is a word of Python."""
GROUP = "extra.commands"
"""Entry points of this group are commands of other packages: name -> module."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a user's error is one message on standard error."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None:  # a separate process, which may be a job of a run
        tether.end_with(os.environ.get(tether.RUN_VARIABLE))
    try:
        modules = modules_for(words[0] if words else "")
    except ExtraError as error:
        print(f"extra: {error}", file=sys.stderr)
        return error.exit_code
    return run_command("extra", (__doc__ or "").splitlines()[0], modules, words, FIRST)


def run_command(prog: str, about: str, modules: Mapping[str, ModuleType], words: Sequence[str], first: str = "") -> int:
    """Run the command that the words name and return its exit code. Without words, print the help and return 2.

    Args:
        prog: name of the program, for messages.
        about: one sentence about it.
        modules: name -> module of each command.
        words: of the command line.
        first: what to type first, for the help.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=about,
        epilog=f"{first}`{prog} COMMAND --help` explains a command with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, module in modules.items():
        module.add_arguments(
            subparsers.add_parser(
                name,
                help=module.HELP,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    if not words:
        parser.print_help()
        return 2
    if not words[0].startswith("-") and words[0] not in modules:
        from extra_rl.config.mistakes import nearest

        near = nearest(words[0], modules) or f" (the commands are {', '.join(modules)})"
        print(f"{prog}: there is no command {words[0]!r}{near}", file=sys.stderr)
        return 2
    arguments = parser.parse_args(words)
    try:
        exit_code: int = modules[arguments.command].run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ExtraError as error:
        print(f"{prog} {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    return exit_code


def modules_for(command: str) -> dict[str, ModuleType]:
    """Return name -> module of the commands of this folder; unless `command` is one of these, of other packages too.

    Raises ConfigError where the module of `command` cannot be loaded. Other broken modules are left out with a
    warning.
    """
    modules = {name: module_of(name) for name in COMMANDS}
    if command in modules:
        return modules
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in modules:
            continue
        try:
            module = entry.load()
            attrgetter("HELP", "add_arguments", "run")(module)
            modules[entry.name] = module
        except Exception as error:
            message = f"{entry.name} of {origin(entry)} cannot be loaded: {type(error).__name__}: {error}"
            if entry.name == command:
                raise ConfigError(f"{message}. Update or remove that package.") from error
            print(f"extra: {message}; left out.", file=sys.stderr)
    return modules


def origin(entry: EntryPoint) -> str:
    """Return the package and module of a command, for messages."""
    return f"{entry.dist.name} ({entry.value})" if entry.dist else entry.value


def module_of(name: str) -> ModuleType:
    """Return the module of a command; its heavy imports happen in `run`."""
    return importlib.import_module(f"extra_cli.{FILES.get(name, name.replace('-', '_'))}")


if __name__ == "__main__":
    sys.exit(main())
