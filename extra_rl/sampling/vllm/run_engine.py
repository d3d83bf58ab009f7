"""Engines, each a vLLM server: found, started where there is none yet, and given the weights that are to sample.

The workflow opens a folder for those of the run (`open_folder`) and names it in EXTRA_ENGINES. Where the variable is
missing, as on a cluster's node or by hand, or the run has ended, a stage opens a folder for itself and closes it when
it has sampled (`engines_folder`). One engine at a time belongs to one stage: it holds the engine's lock, which is freed
when the stage ends, however it ends.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.devices import locks as devices
from extra_rl.devices.acquire import take_cuda
from extra_rl.errors import ModelError
from extra_rl.sampling.stop import StopStrings
from extra_rl.sampling.vllm.arguments import flags
from extra_rl.sampling.vllm.client import ServerClient
from extra_rl.sampling.vllm.keeper import KEEPER_LOCK

SERVER_MODULE = "vllm.entrypoints.launchers.api_server.entry"

FOLDER_VARIABLE = "EXTRA_ENGINES"
"""Environment variable: the folder of the run's engines."""
LOGS_VARIABLE = "EXTRA_ENGINE_LOGS"
"""Environment variable: where their logs go."""
PLACE, PREFIX = Path("/tmp"), "extra-engines-"
"""Not TMPDIR: the path of a socket may have 107 bytes at most."""
ALIVE = "alive"
"""File in the folder that the run holds locked while it lives."""
POLL_SECONDS = 0.2
STOP_SECONDS = 60.0
ABANDONED_SECONDS = 60.0

_HELD: list[int] = []
"""Descriptors of ALIVE files of this process; open, and so held, until it ends. No child inherits them."""


def open_folder(logs: Path) -> None:
    """In the process that the engines must not outlive: makes the folder, of mode 0700, and says where it is."""
    folder, descriptor = _made_folder(logs)
    _HELD.append(descriptor)
    os.environ[FOLDER_VARIABLE], os.environ[LOGS_VARIABLE] = str(folder), str(logs.resolve())
    atexit.register(_remove_unused, folder)


def find_folder() -> Path | None:
    """The folder of the run's engines, None where no run that lives has opened one."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else None
    return folder if folder and _is_locked(folder / ALIVE) else None


@contextmanager
def engines_folder() -> Iterator[tuple[Path, Path]]:
    """The folder of the run's engines and that of their logs; where no run that lives has opened one, a folder for the
    block alone, whose engine has ended when the block has."""
    folder = find_folder()
    if folder is not None:
        yield folder, Path(os.environ[LOGS_VARIABLE])
        return
    logs = Path(".snakemake").resolve() / f"engines-{platform.node()}"  # nodes of a cluster share the directory
    folder, descriptor = _made_folder(logs)
    try:
        yield folder, logs
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may have a copy, which closing would leave locked
        os.close(descriptor)
        for lock in folder.glob(f"*/{KEEPER_LOCK}"):
            _wait_until_free(lock, logs)
        shutil.rmtree(folder, ignore_errors=True)


def _made_folder(logs: Path) -> tuple[Path, int]:
    """A folder for engines, and the descriptor by which this process holds its file ALIVE locked."""
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
    descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    logs.mkdir(parents=True, exist_ok=True)
    return folder, descriptor


def _wait_until_free(lock: Path, log: Path) -> None:
    """Until the keeper that holds the lock has ended; ModelError where it does not."""
    deadline = time.monotonic() + STOP_SECONDS
    while _is_locked(lock):
        if time.monotonic() > deadline:
            raise ModelError(f"the vLLM engine does not end: {log} says why.")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Engine:
    """A vLLM server, running or not; this process holds its lock."""

    folder: Path
    log: Path

    @property
    def socket(self) -> Path:
        return self.folder / "http"

    def client(self, version: str = "", eos: tuple[int, ...] = (), stops: StopStrings | None = None) -> ServerClient:
        return ServerClient(self.socket, self.log, version, eos, stops)

    def loaded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What was noted by `note_loaded` of an engine that runs and will do for these arguments; else empty.

        One that will not do is stopped.
        """
        if not _is_locked(self.folder / KEEPER_LOCK):
            return {}
        if not _will_do(json.loads((self.folder / "arguments.json").read_text()), arguments):
            self.stop()
            return {}
        self.wait_until_ready(None)
        noted = self.folder / "loaded.json"
        return json.loads(noted.read_text()) if noted.exists() else {"version": None}

    def note_loaded(self, version: str, eos: tuple[int, ...]) -> None:
        """The engine has these weights, and samples what their policy would: so the next stage need not ask again."""
        self.client().post("/update_weight_version", {"new_version": version})
        (self.folder / "loaded.json").write_text(json.dumps({"version": version, "eos": eos}))

    def view(self, version: str) -> Path:
        """Where a policy is laid out for the engine; those of former policies are removed."""
        views = self.folder / "views"
        shutil.rmtree(views, ignore_errors=True)
        return views / version[:16]

    def start(self, view: Path, arguments: Mapping[str, Any], variables: Mapping[str, str], alive: Path) -> None:
        """Starts the server with the weights of `view`, and waits for its answer. ModelError where it ends instead."""
        (self.folder / "arguments.json").write_text(json.dumps(arguments))
        server = ["--model", str(view), "--uds", str(self.socket), "--enable-scale-out", "--disable-uvicorn-access-log"]
        command = [sys.executable, "-m", "extra_rl.sampling.vllm.keeper", "--alive", str(alive)]
        command += ["--folder", str(self.folder), "--module", SERVER_MODULE, "--", *server, *flags(arguments)]
        with self.log.open("ab") as log:
            keeper = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[3],  # where `-m` finds this package, installed or not
                env={**os.environ, **variables, "VLLM_SERVER_DEV_MODE": "1", "VLLM_RPC_BASE_PATH": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives the stage
            )
        self.wait_until_ready(keeper)

    def wait_until_ready(self, keeper: subprocess.Popen[bytes] | None) -> None:
        """keeper: the one just started; None: one that was there, known by its lock."""
        while not (self.socket.exists() and self.client().healthy()):
            if keeper.poll() is not None if keeper else not _is_locked(self.folder / KEEPER_LOCK):
                raise ModelError(
                    f"vLLM cannot start with this model: {self.log} says why. Where memory is short: sampling.engine "
                    "(docs/vllm.md); else use sampling.backend: transformers."
                )
            time.sleep(POLL_SECONDS)

    def reload(self, view: Path) -> None:
        """Puts the weights of `view` in the place of the old ones, and forgets what was cached of those."""
        (self.folder / "loaded.json").unlink(missing_ok=True)
        client = self.client()
        client.post("/pause?mode=abort")  # of a stage that was killed
        client.post("/update_weight_version", {"new_version": "loading"})
        client.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(view)}})
        if not client.post("/reset_prefix_cache")["success"]:
            raise ModelError(f"the vLLM engine did not give up its prefix cache: {self.log} says why.")
        client.post("/resume")

    def stop(self) -> None:
        """Ends the server and its keeper, and waits for it."""
        lock = self.folder / KEEPER_LOCK
        os.kill(int(lock.read_text()), signal.SIGTERM)
        _wait_until_free(lock, self.log)
        self.folder.mkdir(mode=0o700, exist_ok=True)  # the keeper has removed it


def take(folder: Path, logs: Path, device: str) -> Engine:
    """Takes an engine for this process, until it ends or calls `give_back`: the first free one of the folder.

    On GPUs the one of the devices that this process has taken; on a CPU any, so that stages of two arms need not wait.
    """
    names = [f"engine-{i}" for i in range(os.cpu_count() or 1)]
    if device == "cuda":
        names = ["engine-cuda-" + "-".join(take_cuda())]
    taken = devices.take_free(names, 1, folder / "locks")
    assert taken
    engine = Engine(folder / taken[0], logs / f"{taken[0]}.log")
    if not _is_locked(engine.folder / KEEPER_LOCK):  # of a server that died
        shutil.rmtree(engine.folder, ignore_errors=True)
    engine.folder.mkdir(mode=0o700, exist_ok=True)
    return engine


def give_back(engine: Engine) -> None:
    """Another stage may take it."""
    devices.release([engine.folder.name], engine.folder.parent / "locks")


def _will_do(running: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Equal arguments; a longer context will do for a shorter one."""
    sizes = {"max_model_len", "max_num_batched_tokens"}
    return all(
        running.get(name, 0) >= wanted[name] if name in sizes else running.get(name) == wanted[name] for name in wanted
    )


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _remove_abandoned() -> None:
    """Folders of runs that were killed before they started an engine: there is no keeper that removes them."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        status = folder.lstat()
        old = time.time() - status.st_mtime > ABANDONED_SECONDS
        if status.st_uid == os.getuid() and old and not _is_locked(folder / ALIVE):
            shutil.rmtree(folder, ignore_errors=True)


def _remove_unused(folder: Path) -> None:
    """At the end of the run: with engines their keepers do it."""
    if not any(_is_locked(lock) for lock in folder.glob(f"*/{KEEPER_LOCK}")):
        shutil.rmtree(folder, ignore_errors=True)
