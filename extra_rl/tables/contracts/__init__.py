"""Every Parquet contract of the pipeline.

A class is a table: its key, its columns with type, unit and one sentence, and its cross-row rules. A stage writes
its key and only the columns that it owns; `extra_rl.tables.scan_iteration` joins them for a reader. Nulls are
refused wherever a column does not say `nullable=True`, and lists of floats never hold NaN or infinity.
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
from extra_rl.tables.contracts.rollouts import (
    Disagreements,
    Prefixes,
    PrefixPool,
    Rollouts,
    RolloutsOfShard,
    TokenScores,
    Verdicts,
)
from extra_rl.tables.contracts.words import (
    CUT_REASONS,
    DROP_RULES,
    ENDS,
    EVALUATION_METRICS,
    GROUP_TYPES,
    JUDGED,
    ORIGINS,
    SPLITS,
    TRAINED,
    WHEN,
)

__all__ = [
    "CUT_REASONS",
    "DROP_RULES",
    "ENDS",
    "EVALUATION_METRICS",
    "GROUP_TYPES",
    "JUDGED",
    "ORIGINS",
    "SPLITS",
    "TRAINED",
    "WHEN",
    "Advantages",
    "CachedSamples",
    "Comparison",
    "Differences",
    "Disagreements",
    "DroppedProblems",
    "EvaluationFigures",
    "EvaluationSamples",
    "IterationState",
    "IterationSummary",
    "JudgedSamples",
    "Novelty",
    "NoveltyMemory",
    "PrefixPool",
    "Prefixes",
    "Problems",
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
