"""Commands of other packages: `extra` finds them by entry points, and a broken one takes nothing else down."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from extra_cli import main as cli
from extra_research.__main__ import COMMANDS as STUDIES
from tests.conftest import ROOT

GREET = '''"""Greet."""
from extra_rl.errors import InputError
HELP = "greets"
def add_arguments(parser):
    parser.add_argument("name")
def run(arguments):
    if arguments.name == "nobody":
        raise InputError("nobody is there.")
    print("hello", arguments.name)
    return 3
'''
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][cli.GROUP]


def play(monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Let these commands, name (`_` for `-`) -> module, be all that installed packages add."""
    found = [EntryPoint(name.replace("_", "-"), module, cli.GROUP) for name, module in commands.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == cli.GROUP else [])


@pytest.fixture
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a user: one that is a command, one that cannot be imported, one that lacks what a command has."""
    (tmp_path / "played_greet.py").write_text(GREET)
    (tmp_path / "played_broken.py").write_text("import no_such_module_here\n")
    (tmp_path / "played_empty.py").write_text("HELP = 'nothing'\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_modules")
def test_a_users_command_runs_and_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, greet_someone="played_greet")
    assert cli.main(["greet-someone", "you"]) == 3
    assert capsys.readouterr().out == "hello you\n"
    assert cli.main(["greet-someone", "nobody"]) == 2
    assert capsys.readouterr().err == "extra greet-someone: nobody is there.\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert "greet-someone" in listed
    assert "greets" in listed
    assert all(name in listed for name in cli.COMMANDS)


@pytest.mark.usefixtures("_modules")
@pytest.mark.parametrize("module", ["played_broken", "played_empty"])
def test_a_broken_command_is_one_error_and_the_others_work(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, broken=module, greet="played_greet")
    assert cli.main(["broken"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"extra: broken of {module} cannot be loaded: ")
    assert said.count("\n") == 1
    assert cli.main(["greet", "you"]) == 3
    assert f"broken of {module} cannot be loaded" in capsys.readouterr().err


def test_an_unknown_command_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nonsense"]) == 2
    assert cli.main(["chek"]) == 2
    unknown, near = capsys.readouterr().err.splitlines()
    assert unknown.startswith("extra: there is no command 'nonsense' (the commands are init, ")
    assert near == "extra: there is no command 'chek'; did you mean `check`?"


def test_a_built_in_command_does_not_look_for_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither for its name, which no package can take, nor at the cost of looking."""
    monkeypatch.setattr(cli, "entry_points", lambda group: pytest.fail("looked for packages"))
    assert cli.main(["show", str(tmp_path)]) == 2


def test_the_studies_are_declared_and_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(DECLARED) == sorted(STUDIES)
    play(monkeypatch, **DECLARED)
    found = cli.modules_for("")
    for name in STUDIES:
        assert found[name].__name__ == f"extra_research.commands.{name.replace('-', '_')}"
    assert cli.main(["counterfactual", "nowhere/iteration_0000"]) == 2
    assert capsys.readouterr().err.startswith("extra counterfactual: nowhere/iteration_0000: no such folder")
