"""The stages of an iteration, one file each; `STAGES` names them in the order in which data flows."""

STAGES = (
    "prepare",
    "warm_start",
    "select",
    "generate",
    "verify",
    "score_entropy",
    "choose_prefixes",
    "regenerate",
    "gather",
    "novelty",
    "advantage",
    "update",
    "summarize",
    "evaluate",
    "compare",
    "audit",
)
