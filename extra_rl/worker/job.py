"""One job, in the child that the server has forked for it.

The child takes over its client's terminal, directory, variables and import path, then calls the named module's `main`
like a new interpreter. Project code that has changed since the server imported it is imported again.
"""

import atexit
import ctypes
import importlib
import logging
import multiprocessing.util
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn, TypedDict

from extra_rl.worker import INTERRUPTED
from extra_rl.worker.own_modules import OwnModules

PR_SET_PDEATHSIG = 1
FLUSH_FAILED = 120
"""CPython's exit code where standard output cannot be flushed at the end."""

_LIBC = ctypes.CDLL(None)


class Job(TypedDict):
    """The message of a client. environment: variable -> value, None for one that is not set."""

    module: str
    argv: list[str]
    sys_argv: list[str]
    sys_path: list[str]
    cwd: str
    umask: int
    environment: dict[str, str | None]
    identity: list[str | None]


def run_in_child(
    job: Job, output_fds: list[int], server_pid: int, hand_over: Callable[[], None], own_modules: OwnModules
) -> NoReturn:
    """Run the job and end the process with its exit code; never return into the server's frames.

    Args:
        output_fds: the client's standard output and standard error.
        server_pid: the parent, with which this process must end.
        hand_over: notifies the client that its job begins, and closes the server's files.
        own_modules: the project's modules that the server has imported.
    """
    code = 1
    try:
        _leave_the_server(server_pid)
        hand_over()
        _take_the_clients_place(job, output_fds)
        own_modules.drop_if_changed()
        code = _finish(_call_main(job))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave_the_server(server_pid: int) -> None:
    """Create a separate session and process group, reset signals and exit handlers, and end with the server.

    The kernel sends the death signal to this process only, even at kill -9 of the server. Processes that the job has
    started are in its group, which the server, or else the client, kills as a whole.
    """
    os.setsid()
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:
        raise SystemExit("the worker ended before its job began")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Exit handlers of preloaded modules only free memory (torch: 60 ms). These two end what a job may have started: log
    # handlers and process pools. The job registers further ones itself.
    atexit._clear()
    atexit.register(logging.shutdown)
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]


def _take_the_clients_place(job: Job, output_fds: list[int]) -> None:
    for fd, target in zip(output_fds, (1, 2), strict=True):
        os.dup2(fd, target)
        os.close(fd)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(job["cwd"])
    os.umask(job["umask"])
    for name, value in job["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.environ["EXTRA_WARM"] = "1"  # for the run records
    sys.argv[:] = job["sys_argv"]
    sys.path[:] = job["sys_path"]


def _call_main(job: Job) -> int:
    """Return the exit code that a new interpreter would have after `sys.exit(module.main(argv))`."""
    try:
        raise SystemExit(importlib.import_module(job["module"]).main(job["argv"]))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
    except KeyboardInterrupt:  # a cold command ends like this, too (stages/__main__.py)
        return INTERRUPTED
    except BaseException as error:
        frames = error.__traceback__ and error.__traceback__.tb_next  # without this one
        sys.excepthook(type(error), error.with_traceback(frames), frames)
    return 1


def _finish(code: int) -> int:
    """Do the visible part of an interpreter's shutdown: join threads, run exit handlers, flush output.

    Tearing down the modules would take longer than most jobs, so the process ends without it.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # also ends idle pools of concurrent.futures
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return FLUSH_FAILED
    return code
