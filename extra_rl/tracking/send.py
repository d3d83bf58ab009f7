"""The process of one tracker: `python -m extra_rl.tracking.send REQUEST ANSWER`, two JSON files.

It imports the standard library and one tracker's module, whose function `send` gets the records.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from extra_rl.tracking.record import Record, TrackedRun

Send = Callable[[TrackedRun, Sequence[Record], int, dict[str, Any]], dict[str, Any] | None]
"""The function of a tracker: (run, records, before, state) -> the new state.

before: how many records of this run the tracker has received, by the ledger. After a kill it may have received more, so
it has to recognise these. state: what the function returned last, {} at first. Any exception is an outage.
"""


def function_of(tracker: str) -> Send:
    """The function of a tracker of this package, or of `module:function`."""
    module, colon, name = tracker.partition(":")
    found = importlib.import_module(module if colon else f"extra_rl.tracking.trackers.{tracker}")
    function: Send = getattr(found, name or "send")
    return function


def main(request: Path, answer: Path) -> int:
    """Send the records of a request; the answer has the new state, or the error in one line."""
    given = json.loads(request.read_text())
    try:
        run = TrackedRun(**given["run"] | {"folder": Path(given["run"]["folder"])})
        run.folder.mkdir(parents=True, exist_ok=True)
        records = [Record(**record) for record in given["records"]]
        state = function_of(given["tracker"])(run, records, given["before"], given["state"])
        result: dict[str, Any] = {"state": state or {}}
    except Exception as error:  # a tracker may raise anything; the caller says it, and tries again later
        result = {"error": f"{type(error).__name__}: {error}"}
    answer.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # threads of a tracker's library must not keep the process
