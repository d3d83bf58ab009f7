"""A stage's command in small: `run.py ARGUMENTS` calls `probe.main`, in the worker if there is one."""

import importlib
import os
import sys

from extra_rl.worker import client

code = client.run("probe", sys.argv[1:])
if code is None:
    code = 99 if "WARM_ONLY" in os.environ else importlib.import_module("probe").main(sys.argv[1:])
sys.exit(code)
