"""Creates a project folder: a configuration, a Snakefile that runs the installed workflow, and profiles.

extra init my-experiment
extra init my-experiment --config experiment

`snakemake` then runs there without a checkout of this project. docs/deploy.md describes the other ways.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
from pathlib import Path

from extra_rl.errors import ConfigError, InputError

HELP = "create a project folder that runs the installed workflow"

SNAKEFILE = """\
# The workflow of the installed package extra-rl, run on config/config.yaml or on the files that --configfile names.
from extra_cli.init import packaged

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


module extra:
    snakefile:
        str(packaged("workflow") / "Snakefile")
    config:
        config


use rule * from extra


# Your own rules may follow.
"""

README = """\
# {name}

Created by `extra init --config {config}`; `config/config.yaml` describes the experiment.

```sh
extra plan config/config.yaml     # the maximum cost; runs nothing
snakemake --cores 2 --dry-run     # the jobs that would run
snakemake --cores 2               # run, or resume after an interruption
extra show results/{run}  # iterations so far, and the comparison
```

Results are in `results/{run}/`, with `report.html` at the end. `extra --help` lists the other commands and
`python -m stages.reference` explains every key of the configuration. On Slurm, edit
`workflow/profiles/slurm/config.yaml` and add `--workflow-profile workflow/profiles/slurm`.
"""

GITIGNORE = """\
/results/
/.snakemake/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder of the new project; must be empty or not exist"
    )
    parser.add_argument("--config", default="tiny", metavar="NAME", help=f"one of {', '.join(configurations())}")


def run(arguments: argparse.Namespace) -> int:
    make(arguments.folder, arguments.config)
    print(f"{arguments.folder}: a project with the configuration {arguments.config}. Next:")
    print(f"  cd {shlex.quote(str(arguments.folder))} && snakemake --cores 2")
    return 0


def make(folder: Path, config: str) -> None:
    """Write the project; ConfigError for an unknown configuration, InputError for a folder that is not empty."""
    if config not in configurations():
        raise ConfigError(f"--config {config}: unknown; the configurations are {', '.join(configurations())}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not an empty folder. Name a new one.")
    for part in ("config", "workflow"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    shutil.copy(packaged("config") / f"{config}.yaml", folder / "config" / "config.yaml")
    shutil.copy(packaged("config") / "schema.json", folder / "config")
    shutil.copytree(packaged("workflow") / "profiles", folder / "workflow" / "profiles")
    (folder / "workflow" / "Snakefile").write_text(SNAKEFILE)
    (folder / "README.md").write_text(README.format(name=folder.resolve().name, config=config, run=run_name(folder)))
    (folder / ".gitignore").write_text(GITIGNORE)


def run_name(folder: Path) -> str:
    """Return the key `name` of the project's configuration, the name of its results folder."""
    from extra_rl.config.files import read_yaml

    return str(read_yaml(folder / "config" / "config.yaml")["name"])


def configurations() -> list[str]:
    """Return the names of the configurations in the package, without the link to the default."""
    return sorted(path.stem for path in packaged("config").glob("*.yaml") if path.stem != "config")


def packaged(name: str) -> Path:
    """Return the folder `workflow` or `config` of this package: next to this file in a wheel, else in the checkout."""
    installed = Path(__file__).parent / "project" / name
    return installed if installed.is_dir() else Path(__file__).parents[1] / name
