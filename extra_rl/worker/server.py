"""The server: one single-threaded process that imports the heavy modules once and forks a child per job.

It listens before it imports, so that early clients wait instead of running cold. It runs no tensor, polars or Arrow
operation, so that no thread pool exists: a child that is forked after such an operation can hang. (polars and pyarrow
start a few idle allocator threads at import; their allocator, jemalloc, supports forks.)

What ends which processes:
- the parent ends (end-of-file of the parent pipe), or SIGTERM, SIGINT: all jobs' process groups and the server;
- a client ends (end-of-file of its connection): its job's process group;
- a signal kills a job: the rest of its process group;
- SIGKILL of the server: the kernel kills its children, and each client its job's process group.
Survivors: a process that left its job's group (setsid), as in a cold run; and, after SIGKILL of both server and client,
the processes that the job itself had started.
"""

import argparse
import ast
import fcntl
import gc
import importlib
import importlib.metadata
import os
import select
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from extra_rl.errors import ExtraError, InputError
from extra_rl.worker.client import identity
from extra_rl.worker.job import Job, run_in_child
from extra_rl.worker.own_modules import OwnModules

PRELOAD = (
    "numpy",
    "polars",
    "dataframely",
    "pyarrow",
    "pyarrow.parquet",
    "pydantic.main",  # pydantic itself imports its parts on first use
    "pydantic.fields",
    "pydantic.functional_validators",
    "pydantic.type_adapter",
    "yaml",
    "torch",
    "safetensors.torch",
    "transformers",
    "transformers.models.qwen3.modeling_qwen3",
    "tokenizers",
)
"""Third-party modules to preload. Whoever starts the worker adds the project's modules that jobs need."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set to 1 before the imports, so that none of them starts a thread pool; stages set their number of threads."""

JOB_BYTES = 1 << 18
"""Maximum length of a job message; the kernel refuses longer ones (default send buffer 208 KiB)."""

BACKLOG = 1024


@dataclass(eq=False)
class _Client:
    connection: socket.socket
    pid: int = 0  # of the job, which leads its process group; 0 before the fork
    pidfd: int = -1

    def close(self) -> None:
        self.connection.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


class Server:
    """The event loop over the listening socket, the parent pipe, signals, clients, and the ends of jobs."""

    def __init__(self, listener: socket.socket, parent_fd: int) -> None:
        self._listener = listener
        self._parent_fd = parent_fd
        self._clients: set[_Client] = set()
        self._stopping = False
        self._own_modules = OwnModules(began_ns=0)
        self._signal_read, self._signal_write = socket.socketpair()
        self._signal_write.setblocking(False)
        signal.set_wakeup_fd(self._signal_write.fileno())
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: None)  # the byte in the wake-up socket stops the loop
        self._selector = selectors.DefaultSelector()
        self._watch(parent_fd, self._stop)
        self._watch(self._signal_read, self._stop)
        self._watch(listener, self._accept)

    def preload(self, modules: Sequence[str]) -> None:
        """Import the modules, then freeze them so that no child's garbage collector copies their pages."""
        begin, began_ns = time.monotonic(), time.time_ns()
        gc.disable()
        with _ends_at_once(self._parent_fd):
            for name in modules:
                if select.select([self._parent_fd, self._signal_read.fileno()], [], [], 0)[0]:
                    return
                try:
                    importlib.import_module(name)
                except ImportError as error:
                    _log(f"{name} is not preloaded: {error}")
        # Fill importlib's cache of installed packages: every stage reads versions, and each scan takes 35 ms.
        importlib.metadata.version("numpy")
        self._own_modules = OwnModules(began_ns)
        gc.collect()
        gc.freeze()
        gc.enable()
        threads = len(os.listdir("/proc/self/task"))
        _log(f"ready after {time.monotonic() - begin:.1f} s, {threads} thread(s)")

    def serve(self) -> None:
        """Serve until the parent ends or a signal arrives; then kill all jobs."""
        try:
            while not self._stopping:
                # One event at a time: handling it may close the sources of the others.
                for key, _ in self._selector.select()[:1]:
                    key.data()
        finally:
            for client in self._clients:
                _kill_group(client.pid)

    def _watch(self, source: int | socket.socket, callback: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def _stop(self) -> None:
        self._stopping = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        client = _Client(connection)
        self._clients.add(client)
        self._watch(connection, lambda: self._hear(client))

    def _hear(self, client: _Client) -> None:
        """A client has sent its job, or has ended after sending it."""
        if client.pid:
            self._selector.unregister(client.connection)
            _kill_group(client.pid)
            return
        job, fds = _receive(client.connection)
        if job and job["identity"] == identity():
            self._fork(client, job, fds)
        else:
            self._drop(client)
        for fd in fds:
            os.close(fd)

    def _fork(self, client: _Client, job: Job, fds: list[int]) -> None:
        server_pid = os.getpid()
        try:
            client.pid = os.fork()
        except OSError as error:
            _log(f"no fork for {job['module']}, it runs cold: {error}")
            self._drop(client)
            return
        if client.pid == 0:
            run_in_child(job, fds, server_pid, lambda: self._hand_over(client), self._own_modules)
        client.pidfd = os.pidfd_open(client.pid)
        self._watch(client.pidfd, lambda: self._finish(client))

    def _hand_over(self, client: _Client) -> None:
        """In the child: notify the client that its job begins, and drop the server's files.

        With a connection still open, its client would wait for a server that has ended.
        """
        client.connection.send(f"group {os.getpid()}".encode())
        for other in self._clients:
            other.close()
        for end in (self._listener, self._signal_read, self._signal_write):
            end.close()
        self._selector.close()
        os.close(self._parent_fd)

    def _finish(self, client: _Client) -> None:
        # WNOWAIT keeps the process id, and so the id of the group, from being reused before the kill.
        ended = os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
        if ended and ended.si_code != os.CLD_EXITED:
            _kill_group(client.pid)
        code = os.waitstatus_to_exitcode(os.waitpid(client.pid, 0)[1])
        with suppress(OSError):  # the client may have ended
            client.connection.send(f"exit {code if code >= 0 else 128 - code}".encode())
        self._drop(client)

    def _drop(self, client: _Client) -> None:
        for fd in {client.connection.fileno(), client.pidfd} & set(self._selector.get_map()):
            self._selector.unregister(fd)
        client.close()
        self._clients.remove(client)


@contextmanager
def _ends_at_once(parent_fd: int) -> Iterator[None]:
    """Let SIGTERM, SIGINT and the end of the parent end this process within an import, which may take seconds.

    The kernel sends SIGIO when the parent's pipe closes (O_ASYNC).
    """

    def end(*_: object) -> None:
        raise SystemExit

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGIO)
    before = [signal.signal(signum, end) for signum in signals]
    flags = fcntl.fcntl(parent_fd, fcntl.F_GETFL)
    fcntl.fcntl(parent_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent_fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(parent_fd, fcntl.F_SETFL, flags)
        for signum, handler in zip(signals, before, strict=True):
            signal.signal(signum, handler)


def _receive(connection: socket.socket) -> tuple[Job | None, list[int]]:
    """The job, None if the message is empty (the client has ended) or truncated; the client's output and error."""
    try:
        message, fds, _, _ = socket.recv_fds(connection, JOB_BYTES, 2)
    except OSError:
        return None, []
    try:
        return ast.literal_eval(message.decode()), fds
    except (ValueError, SyntaxError):
        return None, fds


def _kill_group(pid: int) -> None:
    """Kill a job that has not been reaped yet, with all processes of its group."""
    if not pid:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # just forked, not yet the leader of a group
        os.kill(pid, signal.SIGKILL)


def listen(path: Path) -> socket.socket:
    """Return a listening socket in a directory that only this user can enter, created if absent.

    Raises InputError if the directory belongs to another user, is open to others, or is not a directory.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InputError(f"{path.parent}: the worker's socket needs a directory that belongs to you, with mode 0700")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def _log(message: str) -> None:
    print(f"worker {os.getpid()}: {message}", flush=True)


def main() -> None:
    """Run the server process from its command line."""
    parser = argparse.ArgumentParser(prog="python -m extra_rl.worker", description="Warm worker of a run.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the socket to create")
    parser.add_argument("--parent-fd", type=int, default=0, help="pipe whose end-of-file ends the worker")
    parser.add_argument("--preload", default=",".join(PRELOAD), help="modules to import, comma-separated")
    options = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("the warm worker needs Linux; stages run without it, only slower")
    try:
        listener = listen(options.socket)
    except ExtraError as error:
        _log(str(error))
        sys.exit(error.exit_code)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # the search scans all installed packages: 20 ms a job
    try:
        server = Server(listener, options.parent_fd)
        server.preload([name for name in options.preload.split(",") if name])
        server.serve()
    finally:
        options.socket.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: another use of the directory
            options.socket.parent.rmdir()
