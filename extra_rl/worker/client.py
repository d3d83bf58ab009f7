"""The client: gives one job to the warm worker and returns its exit code.

Every stage's command starts here, so this file imports only modules that the interpreter's start-up and `socket` load
anyway: no json (it imports `re`), no typing, no argparse.

The protocol, over a Unix socket that keeps message boundaries (SOCK_SEQPACKET):

    client -> worker   one Python literal (`job.Job`), with file descriptors 1 and 2 attached
    job -> client      b"group 1234"    its process group, just before it begins
    worker -> client   b"exit 3"        its exit code, 128 + s if signal s killed it

Output needs no messages: the job writes to the client's file descriptors. Without a group message nothing has run, and
the caller runs cold. After it, the end of the worker is reported as the job's failure. An end-of-file from the client
kills the job. Resource limits and CPU affinity are those of the worker.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

from extra_rl.worker import INTERRUPTED

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
"""Variables that a job takes from its client, set or unset, in addition to all set ones that begin with EXTRA_.

All others are those of the worker: variables that are read at import (HF_HOME, OMP_NUM_THREADS) would have no effect.
"""

REPLY_BYTES = 64


def identity() -> list[str | None]:
    """Return what client and worker must share: interpreter, environment and Slurm allocation.

    A worker outside the client's allocation would run the job outside the allocation's limits and devices.
    """
    return [sys.prefix, sys.version, os.environ.get("SLURM_JOB_ID")]


def run(module: str, argv: list[str]) -> int | None:
    """Run `module.main(argv)` in the worker and return its exit code, 0 to 255.

    Returns None, and nothing has run, where no worker takes the job: `EXTRA_WORKER` is not set, nothing listens there,
    the worker has ended, or its `identity` differs. The caller then runs the module itself.
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


def listens() -> bool:
    """Whether a worker listens at `EXTRA_WORKER`."""
    connection = connect(os.environ.get(SOCKET_VARIABLE, ""))
    if connection is not None:
        connection.close()
    return connection is not None


def connect(path: str) -> socket.socket | None:
    """Connect to the worker at `path`; None where nothing listens there."""
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
        # Close one direction only: the worker kills the job, and its last message confirms that the job writes no more.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(REPLY_BYTES)
        return INTERRUPTED
    if reply:
        return int(reply.partition(b" ")[2])
    # The children of a killed worker end with it, but their children do not.
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    print(f"extra: the warm worker ended while {module} was running; run the command again", file=sys.stderr)
    return 1
