"""The warm worker: a fork server that has imported the heavy third-party modules and computed nothing.

`launch.start` starts it, `client.run` gives it one job, `server` is the process itself, and `job` runs in its forked
children. Linux only. This file imports nothing, because every stage's command passes through this package.
"""

INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 + SIGINT, as in a shell."""
