"""What a configuration costs before it runs: exact counts, upper bounds, floors. Pure functions, no torch, no network.

`rate` alone reads files: the records of finished iterations, from which seconds are scaled.
"""
