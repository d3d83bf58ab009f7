"""Starts or resumes a run: checks that the named files can be read, then becomes `snakemake`.

extra run config/tiny.yaml
extra run config/tiny.yaml -n                                          what would run
extra run config/tiny.yaml mine.yaml --cores 8                         two files, of which the second takes precedence
extra run config/tiny.yaml results/tiny/extra/s0/iteration_0003/novelty.parquet     one file
extra run config/tiny.yaml --config seeds='[0, 1]'                     further options of Snakemake

Words that end in .yaml, .yml or .json are configurations, other words are targets; everything from the first option on
is passed to Snakemake as it is. Without --cores all available cores are used. Without a configuration the Snakefile
takes its own (config/config.yaml).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from extra_rl.errors import ConfigError

HELP = "start or resume a run, or a dry run with -n: checks the files, then runs snakemake"

SUFFIXES = (".yaml", ".yml", ".json")
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
"""Where Snakemake looks for a workflow."""
CORES = ("-c", "--cores", "-j", "--jobs", "--profile", "--executor", "-e", "--workflow-profile")
"""Options after which the number of cores is the user's."""
OWN = ("--configfile", "--configfiles")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "extra run [CONFIG ...] [TARGET ...] [OPTION ...]"
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="WORD", help="as in the examples above")
    parser.prefix_chars = "\0"  # no word is an option of this parser: they are Snakemake's, and may come first
    parser.set_defaults(print_help=parser.print_help)


def run(arguments: argparse.Namespace) -> int:
    if arguments.words[:1] in (["-h"], ["--help"]):
        arguments.print_help()
        return 0
    command = command_of(arguments.words)
    print(shlex.join(command), flush=True)
    return os.execv(sys.executable, [sys.executable, "-m", *command])


def command_of(words: Sequence[str]) -> list[str]:
    """Return the command line of Snakemake for the words after `extra run`.

    Raises ConfigError for a configuration that is missing or no YAML, an option that belongs before the others, and a
    folder without a workflow.
    """
    first = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    named, options = words[:first], list(words[first:])
    configs = [word for word in named if Path(word).suffix in SUFFIXES and not word.startswith("results/")]
    targets = [word for word in named if word not in configs]
    if refused := [word for word in options if word.partition("=")[0] in OWN]:
        raise ConfigError(f"{refused[0]}: name configurations without it, before all options: extra run FILE.yaml ...")
    if "--" in options:
        place = options.index("--")
        options, targets = options[:place], [*targets, *options[place + 1 :]]
    _require_workflow(options)
    for config in configs:
        _require_config(Path(config))
    _require_profiles(options)
    cores = [] if any(_is(word, CORES) for word in options) else ["--cores", str(len(os.sched_getaffinity(0)))]
    files = ["--configfile", *configs] if configs else []
    return ["snakemake", *cores, *files, *options, *(["--", *targets] if targets else [])]


def _is(word: str, options: Sequence[str]) -> bool:
    """Whether a word is one of these options, also with its value attached: -c4, --cores=4."""
    return word.partition("=")[0] in options or any(len(one) == 2 and word.startswith(one) for one in options)


def _require_workflow(options: Sequence[str]) -> None:
    if any(_is(word, ("-s", "--snakefile")) for word in options):
        return
    if not any(Path(name).is_file() for name in SNAKEFILES):
        raise ConfigError(
            f"{Path.cwd()}: no workflow here (workflow/Snakefile). Go to the folder of the project, or make one with "
            "`extra init DIR`."
        )


def _require_profiles(options: Sequence[str]) -> None:
    """Raise ConfigError for a profile that is named by a path and does not exist: a dry run would not miss it."""
    for word, following in zip(options, [*options, ""][1:], strict=True):
        if _is(word, ("--profile", "--workflow-profile")):
            profile = word.partition("=")[2] or following
            if "/" in profile and not Path(profile).exists():
                raise ConfigError(f"{profile}: no such profile.")


def _require_config(path: Path) -> None:
    """Raise ConfigError where Snakemake could not read a configuration: it would say neither file nor line."""
    from extra_rl.config.files import read_yaml
    from extra_rl.config.mistakes import nearest

    if not path.exists():
        known = sorted(str(file) for folder in {path.parent, Path("config")} for file in folder.glob("*.y*ml"))
        raise ConfigError(f"{path}: no such configuration file{nearest(path, known) or '.'}")
    read_yaml(path)
