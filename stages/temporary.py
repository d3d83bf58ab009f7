"""The temporary folders of Snakemake, which it removes when it ends, but not when it is killed.

The Snakefile calls this first, so this file imports little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extra_rl.run.claim import claim


def claim_temporary_folders(workflow: Any) -> None:
    """Claim the folders of this run, and remove those that killed runs of this user have left.

    They lie in TMPDIR and in Snakemake's cache. The process of a single job (on a cluster) does nothing.
    """
    if workflow.is_main_process:
        claim(workflow.snakemake_tmp_dir, "snakemake????????")
        claim(Path(workflow.sourcecache.runtime_cache_path), "tmp????????")
