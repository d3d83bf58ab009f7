"""The client: hands one job to the warm worker and returns its exit code.

Every stage's command starts here, so this file imports only what the interpreter's start-up and `socket`
have loaded anyway: no json (it brings `re`), no typing, no argparse.

The conversation, over a Unix socket that keeps message boundaries (SOCK_SEQPACKET):

    client -> worker   one Python literal (`job.Job`), with file descriptors 1 and 2 attached
    job -> client      b"group 1234"    its process group, just before it begins
    worker -> client   b"exit 3"        its exit code, 128 + s if signal s killed it

Output needs no messages: the job writes to the client's own descriptors. If the group never comes, nothing
has run and the caller runs cold; once it has come, a worker's end is reported as the job's failure. An
end-of-file from the client kills the job. Resource limits and CPU affinity are the worker's.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from extra_rl.worker.job import Job

SOCKET_VARIABLE = "EXTRA_WORKER"
"""Environment variable with the path of the worker's socket."""

FORWARDED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "NO_COLOR",
    "PATH",
    "POLARS_MAX_THREADS",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
)
"""Variables that a job takes from its client, set or unset; and those set that begin with EXTRA_.

All others are the worker's own: those read at import (HF_HOME, OMP_NUM_THREADS) could no longer take effect.
"""

REPLY_BYTES = 64
INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 + SIGINT, as a shell has it."""


def identity() -> list[str | None]:
    """What client and worker must share: interpreter, environment and Slurm allocation.

    A worker outside the client's allocation would run the job past the allocation's limits and devices.
    """
    return [sys.prefix, sys.version, os.environ.get("SLURM_JOB_ID")]


def run(module: str, argv: list[str]) -> int | None:
    """Run `module.main(argv)` in the worker and return its exit code, 0 to 255.

    Returns None, with nothing run, where no worker takes the job: `EXTRA_WORKER` unset, nobody listening, the
    worker gone, or its `identity` different. The caller then runs the module itself.
    """
    connection = connect(os.environ.get(SOCKET_VARIABLE, ""))
    if connection is None:
        return None
    with connection:
        try:
            socket.send_fds(connection, [ascii(_job(module, argv)).encode()], [1, 2])
            reply = connection.recv(REPLY_BYTES)
        except OSError:
            return None
        word, _, number = reply.partition(b" ")
        return _exit_code(connection, int(number), module) if word == b"group" else None


def connect(path: str) -> socket.socket | None:
    """A connection to the worker at `path`, or None where nobody listens there."""
    if not path:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def _job(module: str, argv: list[str]) -> Job:
    umask = os.umask(0)
    os.umask(umask)
    names = [*FORWARDED_VARIABLES, *(name for name in os.environ if name.startswith("EXTRA_"))]
    return {
        "module": module,
        "argv": argv,
        "sys_argv": sys.argv,
        "sys_path": sys.path,
        "cwd": os.getcwd(),
        "umask": umask,
        "environment": {name: os.environ.get(name) for name in names},
        "identity": identity(),
    }


def _exit_code(connection: socket.socket, group: int, module: str) -> int:
    try:
        reply = connection.recv(REPLY_BYTES)
    except KeyboardInterrupt:
        # Half a hang-up: the worker kills the job, and its last message says that nothing writes any more.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(REPLY_BYTES)
        return INTERRUPTED
    if reply:
        return int(reply.partition(b" ")[2])
    # A killed worker takes its children along, but not their children.
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    print(f"extra: the warm worker ended while {module} was running; run the command again", file=sys.stderr)
    return 1
