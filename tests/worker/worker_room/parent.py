"""A process with a worker and a running job: `parent.py exit` ends at once, `parent.py wait` waits."""

import os
import subprocess
import sys
import time
from pathlib import Path

from extra_rl.worker.launch import start

worker = start(Path("log"), preload=[])
job = subprocess.Popen([sys.executable, Path(__file__).with_name("run.py"), "nap", "pids"])
while not os.path.exists("pids"):
    time.sleep(0.01)
print(worker.process.pid, worker.socket, job.pid, flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
