"""One of the processes that torchrun starts for the stage `update`: python -m extra_rl.training.worker FOLDER.

`launch.py` starts it and describes the files of the folder. The process ends as soon as the stage releases the folder's
lock: torchrun starts it in a separate session, which a kill of the stage's process group does not reach.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from extra_rl.errors import ExtraError
from extra_rl.tables.files import write_whole


def main(argv: list[str]) -> int:
    """Train the folder's job; write a user's error into a file of this rank, from which the stage raises it."""
    folder = Path(argv[0])
    threading.Thread(target=_end_with_the_stage, args=(folder / "stage.lock",), daemon=True).start()
    try:
        _train(folder)
    except ExtraError as error:
        text = json.dumps({"kind": type(error).__name__, "message": str(error)})
        write_whole(folder / f"error_{os.environ['RANK']}.json", lambda tmp: tmp.write_text(text))
        sys.stderr.flush()
        os._exit(error.exit_code)  # without taking the process group down, which would wait for the others
    return 0


def _end_with_the_stage(lock: Path) -> None:
    try:
        with suppress(FileNotFoundError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # granted once the stage has ended
    except OSError:  # a file system without locks, which the stage was allowed to use: torchrun alone ends the ranks
        return
    os._exit(1)


def _train(folder: Path) -> None:
    import resource

    import polars as pl
    import torch

    from extra_rl.run.progress import Console, Progress
    from extra_rl.training.launch import read_job
    from extra_rl.training.parallel import process_group
    from extra_rl.training.run import train

    job = read_job(folder)
    compute = job.settings.compute
    torch.set_num_threads(compute.threads)
    if job.device == "cuda" and compute.precision == "bfloat16":
        torch.set_float32_matmul_precision("high")
    rows = pl.read_parquet(folder / "rows.parquet")
    with process_group(job.device) as parallel, Console(None) as console:
        progress = Progress(console, job.steps, job.title)
        step_done = progress.update if parallel.rank == 0 else lambda: None
        figures: dict[str, float] = {}
        steps = train(job, rows, parallel, step_done, figures)
        peaks = parallel.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if parallel.rank == 0:
            result = json.dumps({"steps": steps, "peak_memory_mb": peaks, "figures": figures})
            write_whole(folder / "result.json", lambda tmp: tmp.write_text(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
