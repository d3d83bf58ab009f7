"""Judge a free-form mathematical answer against a reference answer. The response is untrusted text.

    from mathjudge import MathJudge, Item, judge, judge_all

    judge("1/2", r"so it is \\boxed{0.5}").verdict          # in this process, without limits
    judge_all(MathJudge(), [Item("1/2", response)], workers=2)  # in processes that can be killed

Importing this package loads neither SymPy nor math-verify: the first judgement that needs them does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not by __getattr__: `mathjudge.judge` is this function even if the module of that name was imported before.
from mathjudge.judge import MathJudge, judge
from mathjudge.policy import Policy
from mathjudge.verdict import Judgement, MathJudgeError, Verdict

if TYPE_CHECKING:
    from mathjudge.bounded import Item, judge_all
    from mathjudge.reference import reference_problem

__all__ = [
    "Item",
    "Judgement",
    "MathJudge",
    "MathJudgeError",
    "Policy",
    "Verdict",
    "judge",
    "judge_all",
    "reference_problem",
]

LATER = {"Item": "bounded", "judge_all": "bounded", "reference_problem": "reference"}
"""Public names by module, imported on first use: multiprocessing and the parsers cost 40 ms."""


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)
    return found
