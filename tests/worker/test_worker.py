"""The warm worker: its jobs behave like cold ones."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.worker import client, launch, server
from extra_rl.worker.launch import LOG_NAME, Worker, start
from stages.experiment import PRELOAD
from tests.worker.jobs import NEVER_COLD, PROJECT, ROOM, outcome, popen


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
