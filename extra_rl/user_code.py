"""A user's own code, which the configuration names as `module:name`: where it is, what it contains, and its import.

`find`, `files` and `digest` read source text and run nothing. `load` imports the module: only processes that may be
killed call it, and the stages that generate the problems of a task of one's own. Source: our decision.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from extra_rl.errors import ConfigError

REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
FILE = re.compile(r"[^\s:]*\.py:\w+")
INSPECTION_S = 120.0
"""Seconds that the import and the trial of a user's code may take before the first job."""


def is_reference(text: str) -> bool:
    """Return whether a text has the form `module:name`; the module may be dotted."""
    return REFERENCE.fullmatch(text) is not None and FILE.fullmatch(text) is None


def find(reference: str, folder: Path | None = None) -> Path:
    """Return the source file of the module of `module:name`, without importing anything.

    folder: of the project, which is searched first; None: the working directory.

    Raises ConfigError if there is no such module, or if it has no source file.
    """
    module = reference.partition(":")[0]
    folder = folder or Path.cwd()
    found = _source(module, folder)
    if found is None:
        raise ConfigError(
            f"{reference}: there is no module {module} with a source file. Write it in {folder} "
            f"({module.replace('.', '/')}.py), or install its package in this environment."
        )
    return found


def files(reference: str, folder: Path | None = None) -> dict[str, Path]:
    """Return module -> source file: the module itself, its parent packages, and the project's modules it imports.

    Imports are followed in the source text, from modules of the project's folder and of the module's own package.
    Modules that are imported by a computed name, other installed packages and data files are not found.

    Args:
        reference: `module:name`.
        folder: of the project; None: the working directory.

    Raises ConfigError as `find`.
    """
    folder = (folder or Path.cwd()).resolve()
    module = reference.partition(":")[0]
    find(reference, folder)
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name, folder)
        if path is None or not _is_own(name, path, module, folder):
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += _imported(path, name)
    return found


def digest(reference: str, folder: Path | None = None) -> str:
    """Return a digest of the source text of `files`. Raises ConfigError as `find`."""
    text = hashlib.sha256()
    for name, path in sorted(files(reference, folder).items()):
        text.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return text.hexdigest()[:16]


def source_digest(judge: str, folder: Path | None = None) -> str:
    """Return `digest` of `module:name`. Of a command line: a digest of the files in the project that it names, or "".

    Raises ConfigError as `find`.
    """
    if is_reference(judge):
        return digest(judge, folder)
    folder = folder or Path.cwd()
    named = [word for word in shlex.split(judge) if not os.path.isabs(word) and (folder / word).is_file()]
    text = "".join(f"{word}\0{hashlib.sha256((folder / word).read_bytes()).hexdigest()}\n" for word in named)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if named else ""


def require_source(judge: str, expected: str) -> None:
    """Raise ConfigError where a user's code is no longer that of the job. expected: `source_digest`; "": any."""
    if expected and source_digest(judge) != expected:
        raise ConfigError(
            f"{judge} was edited after this run was started. Run the same command again: it judges again what the edit "
            "concerns. (A stage by hand: --derived judge_source= task_source= takes the file as it is.)"
        )


def load(reference: str, folder: Path | None = None) -> Any:
    """Import the module of `module:name` and return what it calls `name`. ConfigError if the module has no such name.

    Raises whatever the import raises. folder: as in `find`.
    """
    place = str(folder or Path.cwd())
    if place not in sys.path:
        sys.path.insert(0, place)
    module, _, name = reference.partition(":")
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing is left in the user's folder
    try:
        loaded = importlib.import_module(module)
    finally:
        sys.dont_write_bytecode = writes
    if not hasattr(loaded, name):
        own = {known: value for known, value in vars(loaded).items() if not known.startswith("_")}
        names = [known for known, value in own.items() if getattr(value, "__module__", None) == module]
        raise ConfigError(
            f"{reference}: {loaded.__file__} defines no {name}; it defines {', '.join(names) or 'nothing'}."
        )
    return getattr(loaded, name)


def names_in_source(reference: str, folder: Path | None = None) -> bool:
    """Return whether the source text of `module:name` binds the name; true where it cannot be known without an import.

    folder: as in `find`.
    """
    try:
        tree = ast.parse(find(reference, folder).read_bytes())
    except (ConfigError, OSError, SyntaxError, ValueError):
        return True
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bool(bound & {reference.partition(":")[2], "*", "__getattr__"})


def inspected(program: str, question: Mapping[str, Any], timeout_s: float = INSPECTION_S) -> dict[str, Any]:
    """Run a module of this library in a child process, which may import a user's code, and return its JSON answer.

    The child writes the answer to the file descriptor that its last argument names. Its process group is killed
    afterwards.

    Args:
        program: module that is run as `python -m`.
        question: its first argument, as JSON.
        timeout_s: wall-clock limit in seconds.

    Raises ConfigError if the child takes too long, fails, or answers with anything but a JSON object.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    read, write = os.pipe()
    with os.fdopen(read, "rb") as answer:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", program, json.dumps(question), str(write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[write],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        finally:
            os.close(write)
        try:
            errors = child.communicate(timeout=timeout_s)[1].decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            raise ConfigError(f"its import did not finish within {timeout_s:g} s") from None
        finally:
            _kill_group(child)
        text = answer.read()
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        last = errors.splitlines()[-1:] or [f"it ended with exit code {child.returncode}"]
        raise ConfigError(f"it cannot be loaded: {last[0]}")
    return found


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        child.wait()


def _source(module: str, folder: Path) -> Path | None:
    """Return the source file of a module by its dotted name, None if there is none. Packages are not imported."""
    where: list[str] | None = [str(folder), *sys.path]
    spec: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, where)
        if spec is None and "." not in name:  # an editable installation has its own finder
            spec = next(filter(None, (_asked(finder, name) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    if spec is None or not spec.has_location or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin).resolve()


def _asked(finder: Any, name: str) -> ModuleSpec | None:
    search = getattr(finder, "find_spec", None)
    found: ModuleSpec | None = search(name, None) if search else None
    return found


def _is_own(name: str, path: Path, module: str, folder: Path) -> bool:
    """Whether a module lies in the project's folder, or in the package of the module that the configuration names."""
    if name.partition(".")[0] == module.partition(".")[0]:
        return True
    return path.is_relative_to(folder) and "site-packages" not in path.parts


def _imported(path: Path, name: str) -> Iterator[str]:
    """Yield the modules that a source file may import, by absolute name; none of one that cannot be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # its import fails, which is reported there
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
