"""Jobs for the tests of the worker: `main([name, *arguments])` calls the function of that name."""

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time


def main(argv):
    return globals()[argv[0]](*argv[1:])


def say(text):
    print(text)
    print(text.upper(), file=sys.stderr)
    return 7


def leave(how):
    sys.exit({"none": None, "zero": 0, "large": 300, "text": "sorry"}[how])


def tidy():
    """Leaves an exit handler, a daemon process and a thread to the end of the interpreter."""
    atexit.register(print, "last")
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()


def boom():
    raise ValueError("what is wrong")


def look(*argv):
    """Everything that a job can see of its client."""
    names = ("CUDA_VISIBLE_DEVICES", "EXTRA_COLOUR", "HOME", "TMPDIR")
    seen = {
        "argv": argv,
        "sys.argv": sys.argv,
        "sys.path": sys.path,
        "cwd": os.getcwd(),
        "umask": os.umask(0),
        "environment": {name: os.environ.get(name) for name in names},
        "SIGTERM": str(signal.getsignal(signal.SIGTERM)),
        "SIGINT": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "files": len(os.listdir("/proc/self/fd")),
        "stdout": [sys.stdout.line_buffering, sys.stdout.encoding],
    }
    print(json.dumps(seen))


def own():
    print(json.dumps([os.getpid(), os.getpgid(0), os.getsid(0), os.getppid()]))


def nap(pids, end=""):
    """Starts a child, writes both process ids, then sleeps, or kills itself with the signal `end`."""
    child = subprocess.Popen(["sleep", "60"])
    with open(pids + ".new", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(pids + ".new", pids)
    if end:
        os.kill(os.getpid(), signal.Signals[end])
    time.sleep(60)


def meet(mine, other):
    """0 if the other job is there at the same time."""
    open(mine, "w").close()
    deadline = time.monotonic() + 10
    while not os.path.exists(other):
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.01)
    return 0


def heavy():
    """Thread pools of torch, polars and Arrow, all begun after the fork."""
    preloaded = sorted({"numpy", "polars", "pyarrow", "torch", "transformers"} & set(sys.modules))
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc
    import torch

    torch.set_num_threads(2)
    before = len(os.listdir("/proc/self/task"))
    trace = (torch.ones(600, 600) @ torch.ones(600, 600)).trace().item()
    threads = len(os.listdir("/proc/self/task")) - before
    frame = pl.LazyFrame({"key": [1, 2] * 50_000, "value": range(100_000)})
    sums = frame.group_by("key").sum().sort("key").collect()["value"].to_list()
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"value": range(1000)}), sink)
    total = pc.sum(pa.parquet.read_table(pa.BufferReader(sink.getvalue()))["value"]).as_py()
    print(json.dumps([preloaded, torch.get_num_threads(), threads, trace, sums, total]))
