"""Import the parser's modules: the fork server of `bounded` imports this once, so every worker has them from its start.

It is a separate module because a fork server preloads modules by name. Do not import it elsewhere: it is slow on
purpose.
"""

from __future__ import annotations

import gc
import importlib

for _name in ("sympy", "latex2sympy2_extended.latex2sympy2", "math_verify", "mathjudge.compare", "mathjudge.reference"):
    importlib.import_module(_name)

# Exempt all objects from garbage collection: forked workers would copy every page that the collector touches.
gc.collect()
gc.freeze()
