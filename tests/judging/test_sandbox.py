"""Programs of a model in a sandbox: what they cannot do, what they cannot leave behind, and what is said of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from extra_rl.judging import sandbox
from extra_rl.judging.sandbox import SandboxError, run_python

MARK = "left by the sandboxed program"


def probe() -> sandbox.Isolation:
    return run_python("", allow_network=True).isolation


ISOLATION = probe()
cut = pytest.mark.skipif(not ISOLATION.network, reason="this system allows no namespaces")


def left() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if MARK in " ".join(p.info["cmdline"] or [])]


def test_a_program_runs_and_its_end_is_known() -> None:
    good = run_python("import json, sys; print('é', len(sys.argv)); print('e', file=sys.stderr)", allow_network=True)
    assert (good.exit_code, good.stopped, good.stdout, good.stderr) == (0, "", "é 1\n", "e\n")
    assert good.succeeded
    bad = run_python("raise SystemExit(3)", allow_network=True)
    assert (bad.exit_code, bad.succeeded) == (3, False)
    fault = run_python("def f(:", allow_network=True)
    assert fault.exit_code == 1
    assert "SyntaxError" in fault.stderr
    surrogate = run_python("print('\ud800')", allow_network=True)
    assert surrogate.stdout == "?\n"


@pytest.mark.parametrize("loop", ["while True: pass", "import threading\nwhile True: pass"])
def test_an_endless_loop_ends_at_the_cpu_limit(loop: str) -> None:
    found = run_python(loop, cpu_s=1, wall_s=30, allow_network=True)
    assert found.exit_code == 128 + 9
    assert found.seconds < 20


def test_a_program_that_waits_ends_at_the_wall_clock_limit() -> None:
    found = run_python("import time; print('here', flush=True); time.sleep(600)", wall_s=1.5, allow_network=True)
    assert (found.stopped, found.stdout, found.succeeded) == ("time", "here\n", False)
    assert found.seconds < 15


def test_memory_is_limited() -> None:
    found = run_python("x = bytearray(8 * 2**30)", allow_network=True)
    assert "MemoryError" in found.stderr
    assert found.exit_code == 1


@pytest.mark.skipif(not ISOLATION.processes, reason="root without the right to become another user")
def test_a_fork_bomb_is_bounded() -> None:
    """It gets 8 processes, whatever it tries, and none is left."""
    bomb = f"""
import os, time
"{MARK}"
made = 0
for _ in range(200):
    try:
        if os.fork() == 0: time.sleep(600)
        made += 1
    except BlockingIOError:
        pass
print(made, flush=True)
while True:
    try: os.fork()
    except BlockingIOError: pass
"""
    found = run_python(bomb, cpu_s=2, wall_s=8, allow_network=True)
    assert 1 <= int(found.stdout.splitlines()[0]) <= 8
    assert not found.succeeded
    assert not left()


def test_children_that_leave_their_session_do_not_outlive_the_call() -> None:
    code = f"""
import os, subprocess, sys
for _ in range(2):
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)  # {MARK}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    os.fork()
    import time
    time.sleep(600)
print("done")
"""
    began = time.monotonic()
    found = run_python(code, processes=16, wall_s=20, allow_network=True)
    assert found.stdout == "done\n", found
    assert time.monotonic() - began < 25
    time.sleep(0.2)
    assert not left()


@cut
def test_there_is_no_network() -> None:
    code = "import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)\nprint('connected')"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run_python(code.format(port=server.getsockname()[1]))
    assert "connected" not in found.stdout
    assert found.exit_code == 1


@cut
def test_other_processes_cannot_be_signalled() -> None:
    found = run_python(f"import os\nos.kill({os.getpid()}, 0)\nprint('seen')")
    assert "seen" not in found.stdout


@pytest.mark.skipif(not ISOLATION.hidden, reason="this system allows no mount of /proc in namespaces")
def test_other_processes_are_not_seen() -> None:
    found = run_python("import os; print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()))")
    assert found.stdout == "[1, 2]\n"


@pytest.mark.skipif(not ISOLATION.files, reason="this system allows no mounts in namespaces")
def test_files_are_written_only_in_the_own_folder(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    os.chmod(tmp_path, 0o777)
    victim.chmod(0o666)
    code = """
import os, sys
for path in (sys.argv[0] + "x", "/tmp/x", {victim!r}, {victim!r} + "2"):
    try:
        open(path, "w").write("x"); print("wrote", path == sys.argv[0] + "x")
    except OSError: print("refused")
"""
    found = run_python(code.format(victim=str(victim)))
    assert found.stdout.split("\n")[:4] == ["wrote True", "refused", "refused", "refused"], found
    assert victim.read_text() == "kept"
    assert sorted(tmp_path.iterdir()) == [victim]


def test_large_files_cannot_be_written() -> None:
    found = run_python("open('big', 'wb').write(bytes(64 * 2**20)); print('written')", file_mb=2, allow_network=True)
    assert "written" not in found.stdout
    assert not found.succeeded


@pytest.mark.skipif(not ISOLATION.files, reason="this system allows no mounts in namespaces")
def test_many_files_cannot_be_written_either() -> None:
    code = "for n in range(100): open(str(n), 'wb').write(bytes(2**20))\nprint('written')"
    found = run_python(code, file_mb=4)
    assert "written" not in found.stdout
    assert "No space left" in found.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_of_output_is_cut(stream: str) -> None:
    found = run_python(f"import sys\nwhile True: sys.{stream}.write('x' * 10000)", output_kb=32, allow_network=True)
    assert found.stopped == "output"
    assert len(getattr(found, stream)) == 32 * 1024


def test_it_sees_neither_our_environment_nor_our_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "abc")
    code = "import os; print(sorted(os.environ)); print(os.listdir('.')); print(os.getcwd() == os.environ['HOME'])"
    found = run_python(code, allow_network=True)
    assert "SECRET" not in found.stdout
    assert found.stdout.splitlines()[1:] == ["['program.py']", "True"]


def test_no_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_python("open('a', 'w').write('x')", allow_network=True)
    assert not list(tmp_path.iterdir())


def test_without_namespaces_it_refuses_unless_the_network_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = tmp_path / "guard.py"
    source = sandbox.GUARD.read_text().replace("Path(__file__).parent", f"Path({str(sandbox.GUARD.parent)!r})")
    planted = "def _unshare(root: bool) -> bool:\n    return False\n\n\ndef _before"
    guard.write_text(source.replace("def _unshare", planted, 1))
    monkeypatch.setattr(sandbox, "GUARD", guard)
    with pytest.raises(SandboxError, match="network of the program cannot be cut off"):
        run_python("print(1)")
    found = run_python(
        "import os, sys, time\nprint(1, flush=True)\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)",
        allow_network=True,
    )
    assert (found.stdout, found.exit_code) == ("1\n", 0)
    assert (found.isolation.network, found.isolation.files) == (False, False)
    waits = (
        "import subprocess, sys, time\n"
        f"code = 'import time; time.sleep(600)  # {MARK}'\n"
        "subprocess.Popen([sys.executable, '-S', '-c', code], start_new_session=True)\n"
        "time.sleep(600)"
    )
    assert run_python(waits, wall_s=2, allow_network=True).stopped == "time"
    assert not left()


def test_a_sandbox_within_a_judging_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is used: under the limits of the pool, from a function that its process forks for each response."""
    from extra_rl.config.sections import TaskConfig, VerifierConfig
    from extra_rl.judging.dispatch import Answer, judge_answers

    (tmp_path / "runs.py").write_text(
        "from extra_rl.judging.sandbox import run_python\n"
        "def passes(response): return run_python(response, allow_network=True).succeeded\n"
    )
    monkeypatch.chdir(tmp_path)
    programs = ["print(1)", "raise ValueError", "while True: pass", "print(2)"]
    found = judge_answers(
        [Answer("", "", text, True) for text in programs],
        TaskConfig(name="math", judge="runs:passes"),
        VerifierConfig(timeout_s=5),
    )
    assert [j.verdict.value for j in found] == ["right", "wrong", "wrong", "right"], found
    assert sys.executable
