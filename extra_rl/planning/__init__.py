"""The cost of a configuration before it runs: exact counts, upper bounds and memory floors, without torch or network.

`rate` reads the records of finished iterations; the other modules are pure functions.
"""
