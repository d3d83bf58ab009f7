"""Engines, each a vLLM server: found, started where there is none yet, and given the weights that are to sample.

The workflow opens a folder for the engines of the run (`open_folder`) and names it in EXTRA_ENGINES. Without the
variable (on a cluster's node or by hand), or after the run has ended, a stage opens a folder for itself and closes it
when it has sampled (`engines_folder`). An engine belongs to one stage at a time: the stage holds the engine's lock,
which is freed when the stage ends, however it ends.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.devices import locks as devices
from extra_rl.devices.acquire import take_cuda
from extra_rl.errors import ModelError
from extra_rl.sampling.text import StopStrings
from extra_rl.sampling.vllm import keeper
from extra_rl.sampling.vllm.arguments import flags
from extra_rl.sampling.vllm.client import ServerClient
from extra_rl.sampling.vllm.keeper import KEEPER_LOCK, is_locked

SERVER_MODULE = "vllm.entrypoints.launchers.api_server.entry"

FOLDER_VARIABLE = "EXTRA_ENGINES"
"""Environment variable: the folder of the run's engines."""
LOGS_VARIABLE = "EXTRA_ENGINE_LOGS"
"""Environment variable: the folder of their logs."""
PLACE, PREFIX = Path("/tmp"), "extra-engines-"
"""Not TMPDIR: the path of a socket may have 107 bytes at most."""
NEW = ".new-"
"""A folder has this before its name until its file ALIVE is locked, and never after."""
ALIVE = "alive"
"""File in the folder that the run holds locked while it lives."""
POLL_SECONDS = 0.2
STOP_SECONDS = 60.0
ABANDONED_SECONDS = 60.0

_HELD: list[int] = []
"""Descriptors of ALIVE files of this process; open, and so held, until it ends. No child inherits them."""


def open_folder(logs: Path) -> None:
    """Make the folder of the engines (mode 0700) and name it in the environment; it lives as long as this process.

    logs: folder of the engines' logs.
    """
    folder, descriptor = _made_folder(logs)
    _HELD.append(descriptor)
    os.environ[FOLDER_VARIABLE], os.environ[LOGS_VARIABLE] = str(folder), str(logs.resolve())
    atexit.register(_remove_unused, folder)


def find_folder() -> Path | None:
    """Return the folder of the run's engines, or None where no living run has opened one."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else None
    return folder if folder and is_locked(folder / ALIVE) else None


@contextmanager
def engines_folder() -> Iterator[tuple[Path, Path]]:
    """The folder of the run's engines and the folder of their logs.

    Where no living run has opened one, a folder for this block alone, whose engine ends with the block.
    ModelError where that engine does not end.
    """
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
            if not keeper.wait_until_free(lock, STOP_SECONDS):
                raise _does_not_end(logs)
        shutil.rmtree(folder, ignore_errors=True)


def _made_folder(logs: Path) -> tuple[Path, int]:
    """A folder for engines, and the descriptor by which this process holds its file ALIVE locked."""
    _remove_abandoned()
    new = Path(tempfile.mkdtemp(prefix=f"{NEW}{PREFIX}", dir=PLACE))
    descriptor = os.open(new / ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder = new.rename(PLACE / new.name.removeprefix(NEW))  # a folder of this name without a lock belongs to nobody
    logs.mkdir(parents=True, exist_ok=True)
    return folder, descriptor


def _does_not_end(log: Path) -> ModelError:
    return ModelError(f"the vLLM engine has not ended after {STOP_SECONDS:g} s; see its log, {log}.")


@dataclass(frozen=True)
class Engine:
    """A vLLM server, running or not; this process holds its lock."""

    folder: Path
    log: Path

    @property
    def socket(self) -> Path:
        """Unix socket of the server."""
        return self.folder / "http"

    def client(self, version: str = "", eos: tuple[int, ...] = (), stops: StopStrings | None = None) -> ServerClient:
        """A client of the server; arguments as in `ServerClient`."""
        return ServerClient(self.socket, self.log, version, eos, stops)

    def loaded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `note_loaded` has noted of a running engine that satisfies the arguments; else {}.

        `{"version": None}` for one that runs but whose weights are unknown. An engine that another stage was
        starting when it ended is waited for. One that does not satisfy the arguments is stopped.
        """
        lock = self.folder / KEEPER_LOCK
        if not is_locked(lock):
            return {}
        if not _satisfies(json.loads((self.folder / "arguments.json").read_text()), arguments):
            self.stop()
            return {}
        if not self.becomes_ready(lambda: is_locked(lock)):
            self._clear()
            return {}
        noted = self.folder / "loaded.json"
        return json.loads(noted.read_text()) if noted.exists() else {"version": None}

    def note_loaded(self, version: str, eos: tuple[int, ...]) -> None:
        """Note that the engine has passed the probe with these weights, so that the next stage need not repeat it."""
        self.client().post("/update_weight_version", {"new_version": version})
        (self.folder / "loaded.json").write_text(json.dumps({"version": version, "eos": eos}))

    def view(self, version: str) -> Path:
        """Return the folder in which a policy is laid out for the engine; those of previous policies are removed."""
        views = self.folder / "views"
        shutil.rmtree(views, ignore_errors=True)
        return views / version[:16]

    def start(self, view: Path, arguments: Mapping[str, Any], variables: Mapping[str, str], alive: Path) -> None:
        """Start the server with the weights of `view`, and wait until it answers; ModelError where it ends instead.

        Args:
            view: folder of the policy as vLLM reads it.
            arguments: vLLM's engine arguments, by name.
            variables: environment variables of the server, in addition to this process's own.
            alive: file that the run holds locked while it lives.
        """
        (self.folder / "arguments.json").write_text(json.dumps(arguments))
        words = ["--model", str(view), "--uds", str(self.socket), "--enable-scale-out", "--disable-uvicorn-access-log"]
        own = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_RPC_BASE_PATH": str(self.folder)}
        process = keeper.start(
            self.folder,
            alive,
            SERVER_MODULE,
            [*words, *flags(arguments)],
            log=self.log,
            variables={**variables, **own},
        )
        if not self.becomes_ready(lambda: process.poll() is None):
            raise ModelError(
                f"vLLM cannot start with this model; see its log, {self.log}. If memory is short, see sampling.engine "
                "(docs/vllm.md); otherwise use sampling.backend: transformers."
            )

    def becomes_ready(self, lives: Callable[[], bool]) -> bool:
        """Wait until the server answers; return False if its keeper ends before. lives: whether the keeper lives."""
        while not (self.socket.exists() and self.client().healthy()):
            if not lives():
                return False
            time.sleep(POLL_SECONDS)
        return True

    def reload(self, view: Path) -> None:
        """Replace the engine's weights by those of `view`, and drop what was cached of the old ones."""
        (self.folder / "loaded.json").unlink(missing_ok=True)
        client = self.client()
        client.post("/pause?mode=abort")  # requests of a stage that was killed
        client.post("/update_weight_version", {"new_version": "loading"})
        client.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(view)}})
        if not client.post("/reset_prefix_cache")["success"]:
            raise ModelError(f"the vLLM engine did not reset its prefix cache; see its log, {self.log}.")
        client.post("/resume")

    def stop(self) -> None:
        """End the server and its keeper, and wait for them; ModelError where they do not end."""
        if not keeper.stop(self.folder, STOP_SECONDS):
            raise _does_not_end(self.log)
        self._clear()

    def _clear(self) -> None:
        """Make the folder an empty one of mode 0700; no keeper lives, and no other stage may use the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)


def take(folder: Path, logs: Path, device: str) -> Engine:
    """Take the first free engine of the folder for this process, until it ends or calls `give_back`.

    On GPUs the engine of the devices that this process has taken; on a CPU any, so that stages of two arms need not
    wait for each other.
    """
    names = [f"engine-{i}" for i in range(os.cpu_count() or 1)]
    if device == "cuda":
        names = ["engine-cuda-" + "-".join(take_cuda())]
    taken = devices.take_free(names, 1, folder / "locks")
    assert taken
    engine = Engine(folder / taken[0], logs / f"{taken[0]}.log")
    if not is_locked(engine.folder / KEEPER_LOCK):  # none yet, or what is left of a server that died
        engine._clear()
    return engine


def give_back(engine: Engine) -> None:
    """Free the engine's lock, so that another stage may take the engine."""
    devices.release([engine.folder.name], engine.folder.parent / "locks")


def _satisfies(running: Mapping[str, Any], required: Mapping[str, Any]) -> bool:
    """Whether the arguments are equal; a longer context satisfies a shorter one."""
    sizes = {"max_model_len", "max_num_batched_tokens"}
    return all(
        running.get(name, 0) >= required[name] if name in sizes else running.get(name) == required[name]
        for name in required
    )


def _remove_abandoned() -> None:
    """Remove the folders of runs that were killed before they started an engine: no keeper removes those.

    A folder without the lock of its run belongs to nobody, unless it is NEW."""
    for folder in [*PLACE.glob(f"{PREFIX}*"), *PLACE.glob(f"{NEW}{PREFIX}*")]:
        with suppress(FileNotFoundError):  # another process removes it at this moment
            status = folder.lstat()
            old = not folder.name.startswith(NEW) or time.time() - status.st_mtime > ABANDONED_SECONDS
            used = is_locked(folder / ALIVE) or _has_keeper(folder)
            if status.st_uid == os.getuid() and old and not used:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_unused(folder: Path) -> None:
    """Remove the folder at the end of a run without engines; where there are engines, their keepers remove it."""
    if not _has_keeper(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _has_keeper(folder: Path) -> bool:
    return any(is_locked(lock) for lock in folder.glob(f"*/{KEEPER_LOCK}"))
