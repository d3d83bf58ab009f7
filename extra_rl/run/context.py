"""What a run tells its stages: `context.json` in the results folder, one readable file.

It holds the keys that change no byte of any table: how far the run goes, which policies stay on disk, and which checks
may end it. They are therefore no part of a rule's param, and the file is an input of no rule: other values re-run
nothing (docs/decisions/0005-what-is-part-of-a-param.md).

The workflow writes the file once the run holds the lock of its results folder, and before the first job; jobs on other
nodes read it from there. A stage finds it from the paths of its outputs. Without the file, as in a run by hand
elsewhere, the defaults below apply: nothing is removed, nothing is stopped, and the length of the run is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from extra_rl.config.run import OnMismatch
from extra_rl.config.section import mistakes
from extra_rl.errors import InputError
from extra_rl.models.retention import Retention
from extra_rl.results import results_folder_of
from extra_rl.tables.files import write_whole

CONTEXT_FILE = "context.json"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Horizon:
    """How far a run goes, for the time left on the terminal; 0: unknown, or without that limit.

    As keys of a stage's section, a run that is given more iterations would start again from the first.

    Args:
        token_budget: sampled tokens, the largest `select.token_budget` of the arms.
        compute_budget: FLOP, the largest `select.compute_budget` of the arms.
    """

    iterations: int = 0
    token_budget: int = 0
    compute_budget: float = 0.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Guards:
    """The keys of the configuration that the checks in `extra_rl.run.guards` read.

    With the defaults, a stage measures and warns but does not stop: by hand, rollouts may be scored on purpose under a
    policy that did not sample them, and nothing is trained on the result automatically.
    """

    on_mismatch: OnMismatch = "warn"
    mismatch_tolerance: float | None = None
    stop_without_signal: int | None = None


class RunContext(BaseModel):
    """The content of `context.json`. The defaults are those of a stage that is run by hand, outside of a run's folder.

    code: version of this package that the run was started with (`records.code_version`), for the run records.
    cells: `<arm>/s<seed>` of every arm and seed, in the order of the configuration. retention: None removes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon: Horizon = Horizon()
    code: str = ""
    cells: tuple[str, ...] = ()
    retention: Retention | None = None
    guards: Guards = Guards()

    def write(self, results: Path) -> None:
        """Write the file into the folder `results/<name>`, whole or not at all."""
        text = self.model_dump_json(indent=1) + "\n"
        write_whole(results / CONTEXT_FILE, lambda tmp: tmp.write_text(text))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. InputError where it is damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            found = "; ".join(mistakes(error, cls, path.name))
            raise InputError(
                f"{path}: not the context of a run ({found}). Delete it and run snakemake, which writes it again."
            ) from None

    @classmethod
    def of_outputs(cls, outputs: Iterable[Path]) -> Self:
        """Return the context of the run that the files belong to; the defaults where there is none.

        Files of an iteration belong to a run: no other stage needs a context.
        """
        folders = (results_folder_of(path) for path in outputs)
        found = next((folder / CONTEXT_FILE for folder in folders if folder), None)
        return cls.read(found) if found and found.is_file() else cls()
