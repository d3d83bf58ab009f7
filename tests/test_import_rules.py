"""Import rules (docs/architecture.md), checked in the source and, where start-up time depends on them, at run time."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from stages import STAGES
from tests.conftest import ROOT

HEAVY = ("torch", "transformers", "sentence_transformers", "sympy", "math_verify", "latex2sympy2_extended", "vllm")
"""Modules that take seconds to import: only imported inside the functions that need them."""

PURE = {
    "extra_rl/algorithms": {
        *("__future__", "collections.abc", "dataclasses", "math", "typing"),
        *("numpy", "numpy.typing", "scipy", "torch"),
        *("extra_rl.algorithms", "extra_rl.errors", "extra_rl.seeding"),
    },
    "extra_rl/novelty": {
        *("__future__", "collections.abc", "dataclasses", "math", "types", "typing"),
        *("numpy", "numpy.typing", "scipy", "pydantic"),
        *("extra_rl.algorithms", "extra_rl.errors", "extra_rl.novelty", "extra_rl.seeding"),
    },
    "extra_rl/statistics": {
        *("__future__", "collections.abc", "typing"),
        *("numpy", "numpy.typing", "scipy"),
        *("extra_rl.errors", "extra_rl.statistics"),
    },
}
"""The only modules that these packages may import; none of them reads a file, a configuration or the clock."""

SNAKEFILES = [*sorted((ROOT / "workflow").rglob("*.smk")), ROOT / "workflow" / "Snakefile"]
STAGE_FILES = [ROOT / "stages" / f"{name}.py" for name in STAGES]
INFRASTRUCTURE = sorted(set((ROOT / "stages").glob("*.py")) - set(STAGE_FILES))
LIBRARY = sorted((ROOT / "extra_rl").rglob("*.py"))
VERIFIER = sorted((ROOT / "mathjudge").rglob("*.py"))
COMMANDS = sorted((ROOT / "extra_cli").rglob("*.py"))
PACKAGES = ("extra_rl", "stages", "extra_cli", "mathjudge", "extra_research")
STUDIES = sorted((ROOT / "extra_research").rglob("*.py"))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Modules that the nodes import; `from a import b` counts as `a` and as `a.b`."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def everywhere(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: without bodies of functions and blocks of `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_import(node)


def within(modules: set[str], *packages: str) -> set[str]:
    return {module for module in modules if any(module == p or module.startswith(f"{p}.") for p in packages)}


Graph = dict[str, set[str]]


def sources() -> dict[str, str]:
    """Names and sources of the modules of all packages."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {
        label(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path.read_text() for path in files
    }


def file_graph(texts: Mapping[str, str]) -> Graph:
    """The modules that each module imports, also inside functions and under TYPE_CHECKING.

    `from a import b` imports the module `a.b` if it exists, else `a`.
    """
    graph: Graph = {module: set() for module in texts}
    for module, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[module] |= {name if name in texts else str(node.module) for name in names}
    return {module: (found & set(texts)) - {module} for module, found in graph.items()}


def package_of(module: str) -> str:
    """The package or module directly below `extra_rl`, else the top-level package."""
    return ".".join(module.split(".")[: 2 if module.startswith("extra_rl.") else 1])


def package_graph(graph: Graph) -> Graph:
    """The other packages that the modules of each package import."""
    packages: Graph = {}
    for module, found in graph.items():
        packages.setdefault(package_of(module), set()).update(map(package_of, found))
    return {package: found - {package} for package, found in packages.items()}


def cycle(graph: Graph) -> list[str]:
    """One cycle of a graph as a path that ends where it begins; empty without a cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_and_packages_have_no_import_cycles() -> None:
    modules = file_graph(sources())
    assert len(modules) > 200
    assert cycle(modules) == []
    packages = package_graph(modules)
    assert {"extra_rl.config", "extra_rl.seeding", "extra_rl.problems", "stages", "mathjudge"} <= set(packages)
    assert "extra_rl.config" in packages["extra_rl.problems"]
    assert cycle(packages) == []


@pytest.mark.parametrize(
    "back",
    [
        "import extra_rl.config.arms",
        "from extra_rl.config import arms",
        "def f():\n    from extra_rl.config.arms import merge",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from extra_rl.config.arms import merge",
    ],
)
def test_a_cycle_is_detected(back: str) -> None:
    """Of modules (arms -> seeding -> arms), and of packages without one of modules (arms -> seeding -> sections)."""
    files = {"extra_rl": "", "extra_rl.config": "", "extra_rl.config.arms": "from extra_rl.seeding import generator"}
    assert cycle(file_graph({**files, "extra_rl.seeding": "import math"})) == []
    assert set(cycle(file_graph({**files, "extra_rl.seeding": back}))) == {"extra_rl.config.arms", "extra_rl.seeding"}
    other = {"extra_rl.config.sections": "", "extra_rl.seeding": back.replace("arms", "sections")}
    graph = file_graph({**files, **other})
    assert cycle(graph) == []
    assert set(cycle(package_graph(graph))) == {"extra_rl.config", "extra_rl.seeding"}


@pytest.mark.parametrize("path", STAGE_FILES, ids=label)
def test_a_stage_imports_no_stage(path: Path) -> None:
    found = imports(everywhere(path))
    assert within(found, "stages", "tests", "snakemake", "importlib") == set()


@pytest.mark.parametrize("path", INFRASTRUCTURE, ids=label)
def test_infrastructure_modules_import_no_stage(path: Path) -> None:
    found = imports(everywhere(path))
    assert within(found, *(f"stages.{name}" for name in STAGES)) == set()
    assert within(found, "tests", "snakemake") == set()


@pytest.mark.parametrize("path", LIBRARY, ids=label)
def test_the_library_imports_neither_stages_nor_snakemake(path: Path) -> None:
    assert within(imports(everywhere(path)), "stages", "extra_cli", "tests", "snakemake") == set()


@pytest.mark.parametrize("path", VERIFIER, ids=label)
def test_the_mathematics_verifier_imports_nothing_of_ours(path: Path) -> None:
    """It is a separate distribution: `pip install ./mathjudge`."""
    assert (
        within(imports(everywhere(path)), "extra_rl", "stages", "extra_cli", "extra_research", "tests", "snakemake")
        == set()
    )


@pytest.mark.parametrize("path", [*STAGE_FILES, *INFRASTRUCTURE], ids=label)
def test_nothing_imports_the_commands(path: Path) -> None:
    assert within(imports(everywhere(path)), "extra_cli") == set()


@pytest.mark.parametrize("path", COMMANDS, ids=label)
def test_commands_import_neither_tests_nor_snakemake(path: Path) -> None:
    assert within(imports(everywhere(path)), "tests", "snakemake") == set()


@pytest.mark.parametrize(
    "path", [*LIBRARY, *STAGE_FILES, *INFRASTRUCTURE, *COMMANDS, *VERIFIER, *SNAKEFILES], ids=label
)
def test_nothing_names_the_studies(path: Path) -> None:
    """Neither as an import nor as text for a dynamic import: `extra` finds them by their entry points."""
    assert "extra_research" not in path.read_text()


@pytest.mark.parametrize("path", STUDIES, ids=label)
def test_studies_import_the_library_and_the_public_functions_of_stages_and_commands(path: Path) -> None:
    found = imports(everywhere(path))
    public = {"stages.load", "stages.load.load", "extra_cli.main", "extra_cli.main.run_command"}
    assert within(found, "stages", "extra_cli", "tests", "benchmarks", "snakemake") <= public
    private = {name for name in within(found, "extra_rl") if any(part.startswith("_") for part in name.split("."))}
    assert private == set()


@pytest.mark.parametrize("room", PURE)
def test_algorithms_novelty_and_statistics_do_no_io(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert len(files) >= 3
    for path in files:
        allowed = PURE[room]
        for module in imports(everywhere(path)):
            assert within({module}, *allowed), f"{label(path)} imports {module}"
        calls = {node.func.id for node in everywhere(path) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}, label(path)


@pytest.mark.parametrize("path", [*LIBRARY, *VERIFIER, *STAGE_FILES, *INFRASTRUCTURE, *COMMANDS, *STUDIES], ids=label)
def test_heavy_modules_are_imported_inside_functions(path: Path) -> None:
    assert within(imports(at_import(ast.parse(path.read_text()))), *HEAVY) == set()


def test_nothing_imports_vllm_and_only_its_sampler_starts_it() -> None:
    """It runs in separate processes, because importing it changes torch's threads."""
    files = [*LIBRARY, *STAGE_FILES]
    assert not [label(path) for path in files if within(imports(everywhere(path)), "vllm")]
    starters = {Path(label(path)).parent for path in files if re.search(r"\bvllm\.(entry|plat)", path.read_text())}
    assert starters == {Path("extra_rl/sampling/vllm")}


def test_the_workflow_imports_no_stage_and_no_algorithm() -> None:
    lines = [line.strip() for path in SNAKEFILES for line in path.read_text().splitlines()]
    statements = [line for line in lines if re.match(r"(from|import) \S", line)]
    found = imports(node for line in statements for node in ast.walk(ast.parse(line.replace("(", "x"))))
    library = {"extra_rl.run.lock", "extra_rl.results"}
    allowed = {f"stages.{path.stem}" for path in INFRASTRUCTURE} | library
    parents = {"stages", "extra_rl", "extra_rl.run"}  # packages of which only modules are imported
    assert within(found, "stages", "extra_rl") - parents == within(found, *allowed) != set()
    assert within(found, *HEAVY, "numpy", "polars") == set()


def test_violations_are_detected() -> None:
    """The functions above, on a file that breaks every rule."""
    source = """
import torch.nn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import transformers
if True:
    from stages import verify
def f():
    import vllm
class A:
    from sympy import Symbol
"""
    tree = ast.parse(source)
    assert within(imports(ast.walk(tree)), *HEAVY) == {
        *("torch.nn", "transformers", "vllm", "sympy", "sympy.Symbol"),
    }
    assert within(imports(at_import(tree)), *HEAVY) == {"torch.nn", "sympy", "sympy.Symbol"}
    assert within(imports(ast.walk(tree)), "stages.verify") == {"stages.verify"}


def loaded_by(code: str) -> set[str]:
    """Top-level packages that are loaded after the code has run in a new interpreter."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


SNAKEFILE_MODULES = """
from pathlib import Path
import stages.layout, stages.terminal, extra_rl.run.lock
from extra_rl.config.files import read_yaml
from stages.experiment import experiment_of
experiment_of(read_yaml(Path("config/tiny.yaml")))
"""


@pytest.mark.parametrize(
    "code",
    [
        SNAKEFILE_MODULES,
        "import stages.verify",
        "import stages.advantage",
        "import extra_rl.tables; extra_rl.tables.scan_iteration",
        "import extra_rl; from extra_cli import main; [main.module_of(name) for name in main.COMMANDS]",
        "import extra_rl.errors, extra_research.__main__ as studies; studies.modules()",
    ],
    ids=["Snakefile", "verify", "advantage", "tables", "cli", "studies"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    found = loaded_by(code)
    assert "extra_rl" in found
    assert found & set(HEAVY) == set()


def test_the_warm_path_of_a_command_loads_the_standard_library_only() -> None:
    found = loaded_by("import stages; from extra_rl.worker import client")
    assert found & {"numpy", "polars", "pydantic", "yaml", "pyarrow", "dataframely", *HEAVY} == set()
    assert found & {"json", "argparse", "typing", "asyncio", "subprocess"} <= loaded_by("")
