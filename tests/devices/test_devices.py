"""Locks of devices: one process per device, release by the kernel, on a simulated list of devices."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from extra_rl.config.sections import ComputeConfig
from extra_rl.devices import acquire as devices
from extra_rl.devices import locks
from extra_rl.devices.acquire import acquire, device_seconds, take_cuda, visible_devices
from extra_rl.devices.locks import release, take_free
from extra_rl.errors import ConfigError, InputError

HOLD = """
import os, sys, time
from pathlib import Path
from extra_rl.devices.locks import take_free
print(take_free(["a", "b"], 1, Path(sys.argv[1]), wait=False), flush=True)
if sys.argv[2:] == ["children"]:  # one forked, one started: both outlive their parent
    import subprocess
    if os.fork() == 0:
        time.sleep(60)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
time.sleep(60)
"""


def holder(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *words], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "locks"
    release(["a", "b", "c", "GPU-x", "GPU-y", "MIG-GPU-x/1/0"], tmp_path / "locks")


def test_the_first_free_one_until_its_holder_is_killed(folder: Path) -> None:
    first, second = holder(folder), None
    try:
        assert said(first) == "['a']"
        second = holder(folder)
        assert said(second) == "['b']"
        assert take_free(["a", "b"], 1, folder, wait=False) is None
        assert take_free(["a", "b", "c"], 1, folder, wait=False) == ["c"]
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert take_free(["a", "b"], 1, folder, wait=False) == ["a"]
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()


def test_a_lock_whose_file_was_removed_is_not_held_twice(folder: Path) -> None:
    first = holder(folder)
    try:
        assert said(first) == "['a']"
        (folder / "a.lock").unlink()
        for _ in range(2):  # the second attempt finds the file that the first one made
            assert take_free(["a"], 1, folder, wait=False) is None
        first.kill()
        first.wait()
        assert take_free(["a"], 1, folder, wait=False) == ["a"]
    finally:
        first.kill()
        first.communicate()


def test_a_file_that_is_replaced_before_it_is_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, another process removes the file and locks a new one of that name."""
    lock = fcntl.flock

    def replace_first(descriptor: int, operation: int) -> None:
        (folder / "a.lock").unlink()
        (folder / "a.lock").touch()
        lock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", replace_first)
    assert take_free(["a"], 1, folder, wait=False) is None


def test_no_child_keeps_the_locks_of_its_parent(folder: Path) -> None:
    parent = holder(folder, "children")
    try:
        assert said(parent) == "['a']"
        time.sleep(0.5)  # it starts its children
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert take_free(["a"], 1, folder, wait=False) == ["a"]
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def test_all_or_none(folder: Path) -> None:
    other = holder(folder)
    try:
        assert said(other) == "['a']"
        assert take_free(["b", "c", "a"], 3, folder, wait=False) is None
        assert take_free(["c"], 1, folder, wait=False) == ["c"]  # nothing was kept
        release(["c"], folder)
        assert take_free(["a", "b", "c"], 2, folder, wait=False) == ["b", "c"]
    finally:
        other.kill()
        other.communicate()


def test_it_waits_until_one_is_released(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    assert take_free(["a"], 1, folder) == ["a"]
    threading.Timer(0.1, release, (["a"], folder)).start()
    begin = time.monotonic()
    assert take_free(["a"], 1, folder) == ["a"]
    assert time.monotonic() - begin >= 0.09


def test_more_than_exist_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="3 are required, but there are 2: a, b"):
        take_free(["a", "b"], 3, folder)


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, folder: Path) -> None:
    assert take_free(["MIG-GPU-x/1/0"], 1, folder) == ["MIG-GPU-x/1/0"]
    assert (folder.stat().st_mode & 0o777, len(list(folder.iterdir()))) == (0o700, 1)
    folder.chmod(0o755)
    link, file = tmp_path / "link", tmp_path / "file"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "elsewhere")
    file.touch(mode=0o600)
    for wrong in (folder, link, file):
        with pytest.raises(InputError, match="must be a folder of yours that nobody else may enter"):
            take_free(["a"], 1, wrong)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A machine with two GPUs, and an environment without variables that name them."""
    monkeypatch.setattr(devices, "gpu_uuids", lambda: ["GPU-x", "GPU-y"])
    monkeypatch.setattr(devices, "lock_folder", lambda: folder)
    monkeypatch.setattr(devices, "_TAKEN", [])
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):  # set first, so that it is as before after the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, {"0": "GPU-x", "1": "GPU-y"}),
        ("1,0", {"1": "GPU-y", "0": "GPU-x"}),
        (" 1 ", {"1": "GPU-y"}),
        ("GPU-y", {"GPU-y": "GPU-y"}),
        ("MIG-1234", {"MIG-1234": "MIG-1234"}),
        ("1,2,0", {"1": "GPU-y"}),
        ("0,-1,1", {"0": "GPU-x"}),
        ("-1", {}),
        ("", {}),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_visible_devices(monkeypatch: pytest.MonkeyPatch, variable: str | None, expected: dict[str, str]) -> None:
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    found = visible_devices()
    assert found == expected
    assert list(found) == list(expected)


def test_the_beginning_of_a_uuid_names_the_same_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_uuids", lambda: ["GPU-12345", "GPU-6789"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-67")
    assert visible_devices() == {"GPU-67": "GPU-6789"}


def test_without_nvml_locks_are_named_after_the_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_uuids", list)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x")
    assert visible_devices() == {"3": "3", "GPU-x": "GPU-x"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices() == {}


@pytest.mark.usefixtures("two_gpus")
def test_a_process_takes_a_device_once(folder: Path) -> None:
    assert take_free(["GPU-x"], 1, folder) == ["GPU-x"]  # by another run
    assert take_cuda() == ["1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    release(["GPU-x"], folder)
    assert take_cuda() == ["1"]
    with pytest.raises(ConfigError, match="2 CUDA devices are required, but this process already works on 1"):
        take_cuda(2)


@pytest.mark.usefixtures("two_gpus")
def test_seconds_with_devices_count_from_taking_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(devices.time, "perf_counter", lambda: now[0])
    assert device_seconds(90.0) == 0.0
    assert take_cuda(2) == ["0", "1"]
    now[0] = 107.0
    assert device_seconds(90.0) == 14.0  # two devices since 100: before, this process had none
    assert device_seconds(104.0) == 6.0  # a later stage of the same process began at 104


@pytest.mark.usefixtures("two_gpus")
def test_waiting_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    assert take_free(["GPU-y"], 1, folder) == ["GPU-y"]
    threading.Timer(0.1, release, (["GPU-y"], folder)).start()
    assert take_cuda(2) == ["0", "1"]
    assert capsys.readouterr().err == "waiting for 2 free CUDA device(s) of 0,1 ...\n"


@pytest.mark.usefixtures("two_gpus")
def test_more_devices_than_the_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ConfigError, match=r"2 CUDA devices .* this process may use 1 \(CUDA_VISIBLE_DEVICES: 1\)"):
        take_cuda(2)


@pytest.mark.usefixtures("two_gpus")
def test_acquire_takes_a_device_before_torch_sees_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def is_available() -> bool:
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        return True

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.version, "cuda", None)
    threads = torch.get_num_threads()
    try:
        acquire(ComputeConfig(device="auto"))  # a build of torch that could not use it
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        assert acquire(ComputeConfig(device="cpu")) == "cpu"
        assert seen == [None]
        assert [acquire(ComputeConfig(device="auto"), devices=1) for _ in range(2)] == ["cuda", "cuda"]
        assert seen == [None, "0", "0"]
    finally:
        torch.set_num_threads(threads)
