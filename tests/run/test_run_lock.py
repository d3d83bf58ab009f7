"""The lock of a results folder: one holder, whom the error names, and release by the kernel."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.run import lock as run_lock

HOLD = """
import sys, time
from pathlib import Path
from extra_rl.run import lock as run_lock
run_lock.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_one_holder_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "tiny"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"tiny is being written by another run \(process {holder.pid} on "):
        run_lock.hold(folder)
    run_lock.hold(tmp_path / "results" / "other")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    run_lock.hold(folder)
    with pytest.raises(InputError, match="another run"):
        run_lock.hold(folder)
