"""The warm worker: its jobs behave like cold ones, and nothing outlives the parent and the clients."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extra_rl.errors import InputError
from extra_rl.worker import client, launch, server
from extra_rl.worker.launch import LOG_NAME, Worker, start
from stages.experiment import PRELOAD

PROJECT = Path(__file__).parents[2]
ROOM = Path(__file__).with_name("worker_room")
NEVER_COLD = 99
"""Exit code of `run.py` where no worker takes the job and WARM_ONLY is set."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        worker = start(tmp_path_factory.mktemp("log"), preload=["json"])
        yield worker
        worker.stop()


def popen(*argv: str, warm: bool = True, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(PROJECT), **options.pop("env", {})}
    if warm:
        env["WARM_ONLY"] = "1"
    else:
        env.pop(client.SOCKET_VARIABLE, None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, str(ROOM / "run.py"), *argv], env=env, **pipes)


def outcome(*argv: str, **options: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one job."""
    process = popen(*argv, **options)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(*pids: int) -> bool:
    return wait_until(lambda: not any(map(alive, pids)))


def nap(file: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A job that sleeps: its client, and the process ids of itself and of its child."""
    process = popen("nap", str(file))
    assert wait_until(file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    assert all(map(alive, pids))
    return process, pids


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["say", "grüße"], 7),
        (["leave", "none"], 0),
        (["leave", "zero"], 0),
        (["leave", "large"], 300 - 256),
        (["leave", "text"], 1),
        (["tidy"], 0),
    ],
)
def test_output_and_exit_code_are_those_of_a_cold_run(worker: Worker, argv: list[str], code: int) -> None:
    cold, warm = outcome(*argv, warm=False), outcome(*argv)
    assert warm == cold
    assert warm[0] == code


def test_uncaught_exception_shows_the_jobs_traceback_only(worker: Worker) -> None:
    code, output, errors = outcome("boom")
    assert (code, output) == (1, "")
    assert errors.startswith("Traceback")
    assert errors.endswith("ValueError: what is wrong\n")
    assert "worker/job.py" not in errors


def test_full_disk_at_the_last_flush_fails_as_in_a_cold_run(worker: Worker) -> None:
    with open("/dev/full", "w") as full:
        assert [outcome("say", "x", warm=warm, stdout=full)[0] for warm in (False, True)] == [120, 120]


def test_directory_variables_and_umask_are_the_clients(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    options = {"cwd": tmp_path, "umask": 0o027, "env": {"EXTRA_COLOUR": "blue", "CUDA_VISIBLE_DEVICES": "3"}}
    argv = ["look", "a b", "ü", "--x=1"]
    cold, warm = outcome(*argv, warm=False, **options), outcome(*argv, **options)
    assert warm == cold
    seen = json.loads(warm[1])
    assert seen["argv"] == argv[1:]
    assert (seen["cwd"], seen["umask"]) == (str(tmp_path), 0o027)
    assert seen["environment"] == {
        "CUDA_VISIBLE_DEVICES": "3",
        "EXTRA_COLOUR": "blue",
        "HOME": os.environ.get("HOME"),
        "TMPDIR": None,
    }


def test_job_is_a_child_of_the_worker_in_its_own_session(worker: Worker) -> None:
    pid, group, session, parent = json.loads(outcome("own")[1])
    assert pid == group == session
    assert parent == worker.process.pid


def test_each_job_runs_the_project_code_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job keeps what the server imported, unless a file has changed or its client belongs to another checkout."""
    first, second = (tmp_path / name / "stages" for name in ("first", "second"))
    for package in (first, second):
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "probe.py").write_text(f"import os\nowner = os.getpid(), {package.parent.name!r}\n")
        (package / "ask.py").write_text(
            "import json\nfrom stages import probe\ndef main(_): print(json.dumps(probe.owner))"
        )
        (package.parent / "run.py").write_text((ROOM / "run.py").read_text().replace('"probe"', '"stages.ask"'))
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setattr(launch, "__file__", str(first.parent / "extra_rl" / "worker" / "launch.py"))
    worker = start(tmp_path, preload=["stages.ask"])

    def ask(checkout: Path) -> tuple[bool, str]:
        """Whether the module was imported by the server, and from which checkout."""
        env = {**os.environ, "PYTHONPATH": str(PROJECT), "WARM_ONLY": "1"}
        command = [sys.executable, str(checkout.parent / "run.py")]
        pid, name = json.loads(subprocess.check_output(command, env=env, text=True))
        return pid == worker.process.pid, name

    assert ask(second) == (False, "second")
    assert ask(first) == (True, "first")
    (first / "probe.py").write_text("import os\nowner = os.getpid(), 'edited'\n")
    assert ask(first) == (False, "edited")
    (first / "probe.py").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        ask(first)
    worker.stop()


def test_two_jobs_run_at_once(worker: Worker, tmp_path: Path) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    jobs = [popen("meet", *names), popen("meet", *names[::-1])]
    assert [job.wait(20) for job in jobs] == [0, 0]
    for job in jobs:
        job.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_job_dies_with_its_client(worker: Worker, tmp_path: Path, how: signal.Signals) -> None:
    process, pids = nap(tmp_path / "pids")
    process.send_signal(how)
    process.communicate(timeout=5)
    assert gone(*pids)
    assert outcome("say", "x")[0] == 7


def test_interrupted_client_returns_only_after_its_job_has_ended(worker: Worker, tmp_path: Path) -> None:
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    worker.process.send_signal(signal.SIGCONT)
    assert process.wait(5) == client.INTERRUPTED
    assert not alive(pids[0])
    assert process.communicate() == ("", "")


def test_an_interrupted_job_ends_without_a_traceback(worker: Worker, tmp_path: Path) -> None:
    process, pids = nap(tmp_path / "pids")
    os.kill(pids[0], signal.SIGINT)
    assert process.wait(30) == client.INTERRUPTED
    os.killpg(pids[0], signal.SIGKILL)  # what the job had started, which holds its output open
    assert gone(*pids)
    assert "Traceback" not in process.communicate()[1]


def test_job_killed_by_a_signal(worker: Worker, tmp_path: Path) -> None:
    assert outcome("nap", str(tmp_path / "pids"), "SIGSEGV")[0] == 128 + signal.SIGSEGV
    assert gone(*map(int, (tmp_path / "pids").read_text().split()))


@pytest.mark.parametrize("how", ["exit", "SIGINT", "SIGTERM", "SIGKILL"])
def test_worker_and_jobs_die_with_the_parent(tmp_path: Path, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, str(ROOM / "parent.py"), "exit" if how == "exit" else "wait"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    worker_pid, path, client_pid = parent.stdout.readline().split()
    pids = [int(pid) for pid in (worker_pid, *(tmp_path / "pids").read_text().split())]
    if how != "exit":
        os.kill(int(client_pid), signal.SIGSTOP)  # it would help to kill
        assert all(map(alive, pids))
        parent.send_signal(getattr(signal, how))
    assert gone(*pids)
    if how != "exit":
        os.kill(int(client_pid), signal.SIGKILL)
    parent.communicate(timeout=10)
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_fails_its_jobs_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=0)
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(how)
    output, errors = process.communicate(timeout=5)
    assert (process.returncode, output) == (1, "")
    assert errors == "extra: the warm worker ended while probe was running; run the command again\n"
    assert gone(*pids)
    assert outcome("say", "x")[0] == NEVER_COLD
    worker.stop()
    assert not worker.socket.parent.exists()
    assert client.SOCKET_VARIABLE not in os.environ


def test_a_worker_that_is_killed_between_jobs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=1)
    dead = worker.process
    dead.kill()
    assert wait_until(lambda: worker.process is not dead)
    assert worker.listens()
    assert outcome("say", "x")[0] == 7
    worker.process.kill()
    said: list[str] = []
    assert wait_until(lambda: said.extend(capfd.readouterr().err.splitlines()) or len(said) == 2)
    assert outcome("say", "x")[0] == NEVER_COLD
    worker.stop()
    assert not worker.socket.parent.exists()
    assert said == [
        "extra: the warm worker ended (SIGKILL); a new one is started",
        f"extra: the warm worker ended (SIGKILL); stages run cold from here; see {tmp_path / LOG_NAME}",
    ]


def test_a_job_dies_even_if_worker_and_client_are_killed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=[], restarts=0)
    process, pids = nap(tmp_path / "pids")
    worker.process.send_signal(signal.SIGSTOP)  # or it would see the client go
    process.kill()
    process.wait()
    worker.process.kill()
    assert gone(pids[0])
    os.killpg(pids[0], signal.SIGKILL)  # its child survives this one case, in the job's group
    assert gone(*pids)
    process.communicate()
    worker.stop()


def test_without_a_worker_the_client_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(client.SOCKET_VARIABLE, raising=False)
    assert client.run("probe", []) is None
    stale = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(os.path.relpath(stale))
    for path in (stale, tmp_path / "absent", tmp_path / ("long" * 50)):
        monkeypatch.setenv(client.SOCKET_VARIABLE, str(path))
        assert client.run("probe", []) is None


def test_another_slurm_allocation_is_not_served(worker: Worker) -> None:
    assert outcome("say", "x", env={"SLURM_JOB_ID": "12345"})[0] == NEVER_COLD
    assert outcome("say", "x")[0] == 7


def test_early_client_waits_and_a_missing_module_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(0.5)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload_extra=["slow_module"], preload=["no_such_module"])
    begin = time.monotonic()
    assert outcome("say", "x") == (7, "x\n", "X\n")
    assert time.monotonic() - begin > 0.4
    worker.stop()
    assert "no_such_module is not preloaded" in (tmp_path / LOG_NAME).read_text()


@pytest.mark.parametrize("how", ["the parent ends", "SIGTERM"])
def test_a_worker_ends_in_the_middle_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "endless_module.py").write_text(f"import time; open({str(begun)!r}, 'w').close(); time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload=["endless_module"], restarts=0)
    assert wait_until(begun.exists)
    begin = time.monotonic()
    if how == "SIGTERM":
        worker.process.terminate()
        worker.process.wait(5)
        assert not worker.socket.exists()
    worker.stop()  # it kills a worker that does not end by itself within STOP_SECONDS
    assert time.monotonic() - begin < 5
    assert worker.process.returncode == 0
    assert not worker.socket.parent.exists()


def test_socket_lies_in_a_private_directory(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.socket.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.chdir(tmp_path)
    server.listen(Path("made/socket")).close()
    assert Path("made").stat().st_mode & 0o777 == 0o700
    Path("open").mkdir(mode=0o755)
    with pytest.raises(InputError, match=r"open: .* mode 0700"):
        server.listen(Path("open/socket"))
    monkeypatch.setattr(os, "getuid", lambda: Path("made").stat().st_uid + 1)
    with pytest.raises(InputError, match=r"made: .* mode 0700"):
        server.listen(Path("made/other"))


def test_full_preload_works_in_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(client.SOCKET_VARIABLE, "")
    worker = start(tmp_path, preload_extra=PRELOAD)
    process = popen("heavy")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output) == [
        ["numpy", "polars", "pyarrow", "torch", "transformers"],
        2,
        1,  # one more thread than before: torch computes on two
        600.0 * 600.0,
        [49_999 * 50_000, 50_000 * 50_000],
        999 * 500,
    ]
    tasks = Path(f"/proc/{worker.process.pid}/task")
    names = {(task / "comm").read_text().strip() for task in tasks.iterdir() if task.name != tasks.parent.name}
    assert names <= {"jemalloc_bg_thd", "polars-ooc-clea"}, "preloading started a pool"
    assert "is not preloaded" not in (tmp_path / LOG_NAME).read_text()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        assert outcome("say", "x")[0] == 7
        seconds.append(time.perf_counter() - begin)
    worker.stop()
    with capsys.disabled():
        print(f"\ntrivial job through the worker: {1e3 * min(seconds):.0f} ms, interpreter start-up included")
