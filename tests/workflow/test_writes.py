"""How a whole run writes into its results: every file under a temporary name in its own folder, then renamed.

An audit hook of Python, in Snakemake, the worker and all jobs, records what they open for writing and what they rename.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from extra_rl.tables.files import TEMPORARY
from tests.conftest import environment, new_run

HOOK = """
import json, os, sys

log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
place = os.environ["AUDIT_PLACE"]

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        found = [event, os.fsdecode(arguments[0])]
    elif event == "os.rename":
        found = [event, *map(os.fsdecode, map(os.fspath, arguments[:2]))]
    else:
        return
    found[1:] = map(os.path.abspath, found[1:])
    if found[-1].startswith(place):
        os.write(log, (json.dumps(found) + "\\\\n").encode())

sys.addaudithook(hook)
""".replace("\\\\n", "\\n")

IN_PLACE = ("*.log", ".lock", "metrics.jsonl")
"""Files that are appended to, and the lock."""
OF_A_POLICY = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
"""Written by transformers, before the manifest that makes them a policy. Its weights are written by safetensors, which
is not Python; it renames a file in the same folder."""


@pytest.mark.slow
def test_every_file_is_renamed_within_its_folder(tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    run = new_run(
        tmp_path / "run", iterations=2, select={"token_budget": 1000}, tracking=["jsonl"], generation={"shards": 2}
    )
    log, results = tmp_path / "audit.jsonl", run.results.resolve()
    path = os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")])
    audit = {"PYTHONPATH": path, "AUDIT_LOG": str(log), "AUDIT_PLACE": str(results)}
    done = subprocess.run(run.command(), env=environment() | audit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    renames = [(Path(source), Path(target)) for event, source, target in (e for e in events if e[0] == "os.rename")]
    assert [pair for pair in renames if pair[0].parent != pair[1].parent] == []
    tables = set(results.rglob("*.parquet"))
    manifests = set(results.rglob("manifest.json"))
    assert tables | manifests <= {target for _, target in renames}
    assert len(tables) > 50
    written = {Path(found[1]) for found in events if found[0] == "open"}
    in_place = {path for path in written if not TEMPORARY.fullmatch(path.name)}
    in_place -= {path for path in in_place if any(path.match(pattern) for pattern in IN_PLACE)}
    in_place -= {path for path in in_place if path.parent.name == "policy" and path.name in OF_A_POLICY}
    assert in_place == set()
