"""Errors that a user can act on.

Each message names the file, key or row at fault and says what to do. The command line prints only the message,
without a traceback, and exits with `exit_code`; files that are already written stay.
"""

import errno


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


DISK_FAULTS = {
    errno.ENOSPC: "The disk is full: make room",
    errno.EDQUOT: "The quota is used up: make room",
    errno.EFBIG: "The file is larger than this process may write (ulimit -f): raise the limit",
    errno.EROFS: "The file system is read-only: name another place, or mount it for writing",
    errno.EACCES: "Correct the permissions of the folder",
    errno.EPERM: "Correct the permissions of the folder",
    errno.EIO: "The disk or the network file system fails: look at the system's log",
    errno.ESTALE: "The network file system has lost the file: look at the mount",
}
"""Errors of the system that no code can mend, and what a user can do."""


def disk_fault(error: OSError, path: object = None) -> InputError | None:
    """The error that tells a user why a file cannot be written; None for an OSError of another kind.

    path: for an error of a write, which does not name its file.
    """
    if error.errno not in DISK_FAULTS:
        return None
    place = path or error.filename or "a file"
    return InputError(
        f"{place}: cannot be written ({error.strerror}). {DISK_FAULTS[error.errno]}, and run again: what is finished "
        "is kept, and the run goes on from there."
    )
