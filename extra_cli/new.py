"""Writes a task or a judge of your own: one file that works, with its test, to start from.

extra new task sorting      # sorting.py, test_sorting.py
extra new judge brevity     # brevity.py, test_brevity.py

It prints the lines of the configuration that use it. Existing files are not overwritten. docs/rewards.md explains both.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from extra_rl.errors import ConfigError, InputError

HELP = "write a task or a judge of your own, with its test"

TASK = '''\
"""The task {name}: sort numbers. It works as it is; replace its parts by your own (docs/rewards.md)."""

from __future__ import annotations

import numpy as np

from extra_rl.tasks.base import Problem

LENGTHS = {{"short": 3, "long": 6}}


class {class_name}:
    """A task: `sample` makes problems, `judge` judges responses. The other parts are for worked solutions."""

    name = "{name}"  # begins the ids of the problems
    levels = tuple(LENGTHS)  # of difficulty: in prepare.train_per_level, tables and reports
    vocabulary = (*map(str, range(100)), ":")  # all words; only a new model that reads words needs them

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """Return a random problem. All randomness comes from `rng`, so that a run can be repeated."""
        numbers = rng.choice(100, size=LENGTHS[level], replace=False).tolist()
        prompt = " ".join(map(str, numbers)) + " :"
        return Problem.of(self.name, level, prompt, answer=" ".join(map(str, sorted(numbers))))

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """Return a correct response: for warm_start.steps and task.examples. Leave it out if you need neither."""
        return problem.answer

    def judge(self, reference: str, response: str, truncated: bool) -> str | dict[str, float]:
        """Return a verdict, a number, or named numbers with `correct`. It may also take problem, tokens, metadata."""
        expected, given = reference.split(), response.split()
        if not given:
            return "truncated" if truncated else "no_answer"
        in_place = sum(a == b for a, b in zip(expected, given, strict=False))
        return {{"correct": float(given == expected), "in_place": in_place / max(len(expected), len(given))}}
'''

TASK_TEST = '''\
"""The task {name}: problems repeat with the seed, solutions are correct, mistakes are not: pytest {test}"""

import numpy as np
import pytest
from {name} import {class_name}

TASK = {class_name}()


@pytest.mark.parametrize("level", TASK.levels)
def test_problems_and_solutions(level: str) -> None:
    problems = [TASK.sample(level, np.random.default_rng(seed)) for seed in range(20)]
    assert problems == [TASK.sample(level, np.random.default_rng(seed)) for seed in range(20)]
    assert len({{problem.canonical for problem in problems}}) > 10
    for problem in problems:
        solution = TASK.demonstration(problem, np.random.default_rng(0))
        assert TASK.judge(problem.answer, solution, truncated=False) == {{"correct": 1, "in_place": 1}}


def test_mistakes() -> None:
    assert TASK.judge("1 2 3", "1 3 2", truncated=False) == {{"correct": 0, "in_place": 1 / 3}}
    assert TASK.judge("1 2 3", "1 2", truncated=True)["correct"] == 0
    assert TASK.judge("1 2 3", " ", truncated=False) == "no_answer"
'''

TASK_LINES = """\
task: {{name: "{name}:{class_name}"}}
prepare: {{train_per_level: {{short: 300, long: 300}}, tuning_per_level: 16, final_per_level: 64}}
verify: {{weights: {{correct: 1, in_place: 0.2}}}}   # without it: the sum of all numbers
"""

JUDGE = '''\
"""The judge {name}: the reference answer must be the last line. It works as it is; replace it (docs/rewards.md)."""

from __future__ import annotations


def score(reference: str, response: str, tokens: list[int]) -> dict[str, float]:
    """Return named numbers, one of them `correct`; or a verdict, a number or a truth value.

    It may also take `problem`, `metadata` and `truncated`. Each call runs in its own process, within the limits of the
    section `verifier`; what it prints is discarded.
    """
    lines = response.strip().splitlines() or [""]
    return {{"correct": float(lines[-1].strip() == reference.strip()), "format": float(len(lines) > 1)}}
'''

JUDGE_TEST = '''\
"""The judge {name}, with numbers computed by hand: pytest {test}"""

from {name} import score


def test_scores() -> None:
    assert score("4", "2 + 2\\n4", []) == {{"correct": 1, "format": 1}}
    assert score("4", "4", []) == {{"correct": 1, "format": 0}}
    assert score("4", "4 or 5", []) == {{"correct": 0, "format": 0}}
    assert score("4", "", []) == {{"correct": 0, "format": 0}}
'''

JUDGE_LINES = """\
task: {{judge: "{name}:score"}}   # next to the other keys of task
verify: {{weights: {{correct: 1, format: 0.1, length: -0.001}}}}   # without it: the sum of the judge's numbers
"""

TEMPLATES = {"task": (TASK, TASK_TEST, TASK_LINES), "judge": (JUDGE, JUDGE_TEST, JUDGE_LINES)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(TEMPLATES), help="what to write")
    parser.add_argument("name", metavar="NAME", help="name of the module: lower-case letters, digits and _")
    parser.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="folder (default: this one)")


def run(arguments: argparse.Namespace) -> int:
    files, lines = rendered(arguments.kind, arguments.name)
    write(arguments.to, files)
    print(f"{' and '.join(str(arguments.to / name) for name in files)}: edit them, then run")
    print(f"  python -m pytest {arguments.to / f'test_{arguments.name}.py'}")
    print("In the configuration of a run in that folder:")
    print("".join(f"  {line}\n" for line in lines.splitlines()), end="")
    return 0


def rendered(kind: str, name: str) -> tuple[dict[str, str], str]:
    """Return the texts of the files by name, and the lines of a configuration that use them.

    Raises ConfigError for a name that cannot be a module, or that is the name of an installed one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name}: cannot be the name of a module; use lower-case letters, digits and _.")
    spec = find_spec(name)
    if name in sys.stdlib_module_names or (
        spec is not None and (spec.origin is None or Path(spec.origin).parent.resolve() != Path.cwd())
    ):
        raise ConfigError(f"{name}: the installed module of this name would be hidden; choose another name.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    names = {"name": name, "class_name": class_name, "test": f"test_{name}.py"}
    code, test, lines = (text.format(**names) for text in TEMPLATES[kind])
    return {f"{name}.py": code, f"test_{name}.py": test}, lines


def write(folder: Path, files: dict[str, str]) -> None:
    """Write the files into a folder. Raises InputError if one exists, or if the folder does not; nothing is written."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder.")
    if there := [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]:
        raise InputError(f"{folder / there[0]} exists and is not overwritten; choose another name.")
    for name, text in files.items():
        (folder / name).write_text(text)
