"""The error of this package: one class, one message that a user can act on."""

from __future__ import annotations


class MathJudgeError(Exception):
    """A setting, a file or a judge cannot be used. The message names it and says what to do."""
