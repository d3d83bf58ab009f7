"""The warm worker: a fork server that has the heavy third-party modules imported and nothing computed.

`launch.start` starts it, `client.run` hands it one job, `server` is the process itself, `job` runs in its
forked children. Linux only. Nothing is imported here: every stage's command passes through this package.
"""
