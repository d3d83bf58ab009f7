"""Running a program that a model wrote, in a child process with as few rights as this machine lets it have.

What a program cannot do: use more CPU time, wall-clock time, memory or processes than allowed, write large files or
much output, outlive the call. Where Linux namespaces are available (`Sandboxed.isolation`), it also has no network,
cannot see or signal other processes, and cannot write any file outside its own empty folder.

What it can do: read every file that the user who runs the training can read, for example keys in a home folder, and
print what it finds; use sockets in the file system that this user may use, such as that of a container service; use the
memory of `processes` times `memory_mb`; and attack the kernel, which it shares. It is no
protection against a determined attacker: for programs of one, use a virtual machine. Source: our decision.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from extra_rl.errors import ExtraError

GUARD = Path(__file__).with_name("sandbox_guard.py")
REFUSED = 126
END_S = 15.0
"""Seconds that the guard has to kill the program's processes before it is killed itself."""
CHUNK = 65_536


class SandboxError(ExtraError):
    """A program was not run, because what it would be allowed to do is more than the caller accepts."""


@dataclass(frozen=True)
class Isolation:
    """What was taken away from a program.

    Args:
        network: it has no network, own process ids, and no way to signal other processes.
        files: it can write only to its own folder.
        hidden: it sees no other process in /proc.
        processes: the limit on the number of its processes is in force.
    """

    network: bool
    files: bool
    hidden: bool
    processes: bool


@dataclass(frozen=True)
class Sandboxed:
    """How a program ended.

    Args:
        exit_code: 0 where it ended by itself without an error; 128 + N after signal N.
        stopped: why it was ended: `time` or `output`; "": it was not, or exceeded another limit, which shows as a
            signal or as an exception of the program.
        stdout, stderr: what it wrote, up to `output_kb`; bytes that are not UTF-8 are replaced.
        isolation: what was taken away from it.
        seconds: wall-clock time.
    """

    exit_code: int
    stopped: str
    stdout: str
    stderr: str
    isolation: Isolation
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself without an error."""
        return self.exit_code == 0 and not self.stopped


def run_python(
    source: str,
    *,
    cpu_s: int = 2,
    wall_s: float = 6.0,
    memory_mb: int = 512,
    file_mb: int = 8,
    processes: int = 8,
    output_kb: int = 64,
    allow_network: bool = False,
) -> Sandboxed:
    """Run a Python program in an empty folder and return how it ended. All its processes are dead by then.

    Args:
        source: text of the program. It has no arguments, no input and no variables of the environment, and may import
            what is installed here.
        cpu_s: CPU seconds of each process.
        wall_s: wall-clock seconds of the whole.
        memory_mb: address space of each process.
        file_mb: size of one file, and of the folder where `Isolation.files`.
        processes: number of processes and threads.
        output_kb: KiB of standard output and of standard error each.
        allow_network: run it also where its network cannot be cut off.

    Raises SandboxError where the network cannot be cut off, unless that is allowed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="extra-sandbox-") as folder:
        question = {
            "folder": folder,
            "source": source.encode(errors="replace").decode(),
            "parent": os.getpid(),
            "cpu_s": cpu_s,
            "memory_mb": memory_mb,
            "file_mb": file_mb,
            "processes": processes,
            "need_network_cut": not allow_network,
        }
        stated = Path(folder, "question.json")
        stated.write_text(json.dumps(question))
        read, write = os.pipe()
        with stated.open() as asked, os.fdopen(read, "rb") as report:
            stated.unlink()
            try:
                guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", str(GUARD), str(asked.fileno()), str(write)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[asked.fileno(), write],
                    start_new_session=True,
                )
            finally:
                os.close(write)
            try:
                stdout, stderr, stopped = _listen(guard, began + wall_s, output_kb * 1024)
                code = guard.wait()
            finally:
                _end(guard)
            line = report.readline()
    if not line:
        raise SandboxError(f"the sandbox could not start: {stderr.strip()[-500:] or f'exit code {code}'}")
    isolation = Isolation(**json.loads(line))
    if code == REFUSED and not isolation.network:
        raise SandboxError(
            "the network of the program cannot be cut off: this system allows no namespaces (unshare). Run in a "
            "container without a network and pass allow_network=True, or allow user namespaces."
        )
    return Sandboxed(code, stopped, stdout, stderr, isolation, time.monotonic() - began)


def _listen(guard: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[str, str, str]:
    """Return standard output, standard error, and why the program was killed: `time`, `output` or ""."""
    assert guard.stdout
    assert guard.stderr
    texts, stopped = {guard.stdout: bytearray(), guard.stderr: bytearray()}, ""
    with selectors.DefaultSelector() as selector:
        for stream in texts:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and not stopped:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or time.monotonic() > deadline:
                stopped = "time"
            for key, _ in ready:
                chunk = os.read(key.fd, CHUNK)
                text = texts[key.fileobj]  # type: ignore[index]
                text += chunk
                if len(text) > limit:
                    del text[limit:]
                    stopped = stopped or "output"
                if not chunk:
                    selector.unregister(key.fileobj)
    if stopped:
        guard.terminate()  # it kills everything below it
    stdout, stderr = (bytes(text).decode(errors="replace") for text in texts.values())
    return stdout, stderr, stopped


def _end(guard: subprocess.Popen[bytes]) -> None:
    guard.terminate()
    with suppress(subprocess.TimeoutExpired):
        guard.wait(END_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(guard.pid, signal.SIGKILL)
    guard.wait()
    for stream in (guard.stdout, guard.stderr):
        assert stream
        stream.close()
