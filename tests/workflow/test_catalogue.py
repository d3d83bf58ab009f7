"""The files that the Snakemake workflow catalogue and snakedeploy need are in their places (docs/deploy.md)."""

from __future__ import annotations

import tomllib

import pytest
import yaml

from tests.conftest import ROOT


def test_the_default_configuration_has_the_name_that_a_deployed_snakefile_reads() -> None:
    assert (ROOT / "config" / "config.yaml").read_text() == (ROOT / "config" / "tiny.yaml").read_text()
    assert 'configfile: "config/config.yaml"' in (ROOT / "workflow" / "Snakefile").read_text()


@pytest.mark.parametrize("name", ["default", "slurm", "kubernetes"])
def test_profiles_lie_where_snakedeploy_copies_them_from(name: str) -> None:
    linked, own = (folder / name / "config.yaml" for folder in (ROOT / "profiles", ROOT / "workflow" / "profiles"))
    assert linked.read_text() == own.read_text()


def test_the_catalogue_file_has_the_required_keys() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"] == {"conda": True}
    assert (ROOT / "config" / "README.md").is_file()


def test_the_environment_of_the_rules_is_this_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    *_, pip = yaml.safe_load((ROOT / "workflow" / "envs" / "extra.yaml").read_text())["dependencies"]
    assert pip == {"pip": [f"{project['name']}=={project['version']}"]}
