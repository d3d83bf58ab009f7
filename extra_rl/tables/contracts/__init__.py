"""The contracts of all Parquet tables of the pipeline.

A class is a table: its key, its columns with type, unit and one sentence, and its rules across columns and rows. A
stage writes its key and only the columns that it owns; `extra_rl.tables.scan_iteration` joins them for a reader. Nulls
are refused unless a column has `nullable=True`, and lists of floats never contain NaN or infinity.
"""

from extra_rl.tables.contracts.evaluation import (
    CachedSamples,
    Comparison,
    Differences,
    EvaluationFigures,
    EvaluationSamples,
    JudgedSamples,
    SeedFigures,
)
from extra_rl.tables.contracts.learning import (
    Advantages,
    IterationState,
    IterationSummary,
    Novelty,
    NoveltyMemory,
    UpdateSteps,
)
from extra_rl.tables.contracts.problems import DroppedProblems, Problems, Selection, Sources, WarmStartSteps
from extra_rl.tables.contracts.regeneration import FreshGroups, PrefixBranches, ReplayBank
from extra_rl.tables.contracts.rollouts import (
    Disagreements,
    ImportedRows,
    Prefixes,
    PrefixPool,
    Rollouts,
    RolloutsOfShard,
    TokenScores,
    Verdicts,
)

__all__ = [
    "Advantages",
    "CachedSamples",
    "Comparison",
    "Differences",
    "Disagreements",
    "DroppedProblems",
    "EvaluationFigures",
    "EvaluationSamples",
    "FreshGroups",
    "ImportedRows",
    "IterationState",
    "IterationSummary",
    "JudgedSamples",
    "Novelty",
    "NoveltyMemory",
    "PrefixBranches",
    "PrefixPool",
    "Prefixes",
    "Problems",
    "ReplayBank",
    "Rollouts",
    "RolloutsOfShard",
    "SeedFigures",
    "Selection",
    "Sources",
    "TokenScores",
    "UpdateSteps",
    "Verdicts",
    "WarmStartSteps",
]
