"""Offline studies of finished iterations: counterfactual variants, gradient noise, signals in prefixes.

It may import `extra_rl` and the loader of stages; nothing imports it. Its commands (`commands/`) are entry points in
pyproject.toml, so that `extra counterfactual` finds them by name.
"""
