"""The package alone: light to import, without the pipeline, with dependencies that agree with the root's."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
OURS = ("extra_rl", "stages", "extra_cli", "extra_research")
HEAVY = ("sympy", "math_verify", "latex2sympy2_extended", "polars", "torch")


def run(code: str, *arguments: str) -> str:
    """What the code prints in a new interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["mathjudge", "mathjudge.judge", "mathjudge.compare", "mathjudge.bounded"])
def test_importing_it_is_light(module: str) -> None:
    loaded = set(json.loads(run(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))")))
    assert module in loaded
    assert loaded & {*HEAVY, *OURS} == set()


@pytest.mark.parametrize("first", ["import mathjudge.judge", "from mathjudge.judge import judge", "import mathjudge"])
def test_the_public_names_do_not_depend_on_what_was_imported_before(first: str) -> None:
    code = "; import mathjudge; print(mathjudge.judge('7', '7').rule, *(type(getattr(mathjudge, n)).__name__"
    assert run(f"{first}{code} for n in sorted(mathjudge.__all__)))").split() == [
        *("bare/text", "type", "type", "type", "type", "ModelMetaclass", "EnumType"),
        *("function", "function", "_lru_cache_wrapper"),
    ]


def test_an_unknown_name_is_refused() -> None:
    import mathjudge

    with pytest.raises(AttributeError, match="no attribute 'grades'"):
        mathjudge.grades  # noqa: B018


def test_the_command_runs_without_the_pipeline(tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out.parquet"
    pairs.write_text('{"gold": "1/2", "response": "\\\\boxed{0.5}"}\n')
    code = f"""
import runpy, sys
try:
    runpy.run_module("mathjudge", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print(end.code, [name for name in {OURS} if name in sys.modules])
"""
    assert run(code, str(pairs), "--out", str(out)).splitlines() == ["right 1", "0 []"]
    assert pl.read_parquet(out)["rule"].to_list() == ["box/number"]


def test_its_dependencies_are_those_of_the_root_project() -> None:
    """Both distributions hold the same code, so a version that one of them pins is pinned in the other."""
    own, root = (
        tomllib.loads(path.read_text())["project"]
        for path in (ROOT / "mathjudge/pyproject.toml", ROOT / "pyproject.toml")
    )
    assert set(own["dependencies"]) <= set(root["dependencies"])
    assert own["version"] == root["version"]
    assert own["scripts"]["mathjudge"] == root["scripts"]["mathjudge"]
