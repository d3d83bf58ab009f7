"""Imported once by the fork server of `bounded`: the parser's modules, in the memory of every worker from its start.

Not for import anywhere else: this module is heavy on purpose.
"""

from __future__ import annotations

import gc
import importlib

for _name in ("sympy", "latex2sympy2_extended.latex2sympy2", "math_verify", "mathjudge.compare", "mathjudge.reference"):
    importlib.import_module(_name)

# What is imported is never collected: forked workers would copy every page that the collector touches.
gc.collect()
gc.freeze()
