"""Replaces `launch.WORKER` in tests: a worker whose rank 1 is killed in a step, or one that never ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from extra_rl.training import worker


def killed(*arguments: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def endless(folder: Path) -> NoReturn:
    Path(os.environ["TEST_PIDS"], f"{os.getpid()}").touch()
    while True:
        time.sleep(1.0)


if __name__ == "__main__":
    if "TEST_PIDS" in os.environ:
        worker._train = endless
    elif os.environ["RANK"] == "1":
        from extra_rl.training.trainer import Trainer

        Trainer.step = killed  # type: ignore[method-assign, assignment]
    sys.exit(worker.main(sys.argv[1:]))
