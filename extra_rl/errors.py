"""Errors that a user can act on.

Each message names the file, key or row at fault and says what to do. The command line prints only the message,
without a traceback, and exits with `exit_code`; files that are already written stay.
"""


class ExtraError(Exception):
    """Base of all errors that the user can correct (configuration, files, data, a diverged run)."""

    exit_code = 2


class ConfigError(ExtraError):
    """A key of the configuration is unknown, missing or out of range."""


class InputError(ExtraError):
    """A file is missing, unreadable, stale, or not the kind of file that it should be."""


class ContractError(ExtraError):
    """A table breaks its contract: wrong column, wrong type, broken rule, inconsistent rows."""


class ModelError(ExtraError):
    """A model or tokenizer cannot be used: no end-of-sequence token, context too short, unreadable weights."""


class NumericalError(ExtraError):
    """A value is not finite, or the sampler's logprobs differ from those of the policy."""


class NoSignalError(ExtraError):
    """The configuration ends a run (`stop_without_signal`): its last iterations had no group to learn from."""
