"""Evaluation of any policy: samples, cached or drawn, their verdicts and figures (docs/evaluation.md)."""

from extra_rl.evaluation.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
