"""Words that a column may hold where it names a kind."""

from __future__ import annotations

from extra_rl.verdict import Verdict

ORIGINS = ["fresh", "regenerated", "demonstration"]
ENDS = ["stop", "length"]
JUDGED = [v.value for v in Verdict]
SPLITS = ["train", "tuning", "final"]
DROP_RULES = ["missing", "overlap", "duplicate", "contradictory", "unverifiable", "too_long", "example"]
WHEN = ["same_iteration", "next_iteration"]
GROUP_TYPES = ["all_wrong", "mixed", "all_right", "excluded"]
CUT_REASONS = ["boundary", "before_peak", "random", "fixed_stride", "fresh"]
EVALUATION_METRICS = ["pass_at_k", "maj_at_k", "mean_length", "truncated", "no_answer"]
TRAINED = ["trained", "no_signal", "unrescued", "excluded"]
