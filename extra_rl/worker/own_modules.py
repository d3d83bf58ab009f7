"""The project's modules that the server has imported: a job keeps them while they are what it would import itself.

Their import builds the classes of configurations and tables, which takes longer than the work of a light stage.
"""

from __future__ import annotations

import os
import sys

OWN = ("extra_rl", "extra_cli", "mathjudge", "stages")
"""The project's packages. The code of a user is never in the server."""

State = tuple[int, int]
"""Time of the last change (ns) and size of a file."""


class OwnModules:
    """The project's modules in this process, with the state of their files since `began_ns`.

    Args:
        began_ns: time (ns since the epoch) before the first of them was imported.
    """

    def __init__(self, began_ns: int) -> None:
        loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OWN}
        self.names = tuple(loaded)
        self.states: dict[str, State | None] = {}
        for module in loaded.values():
            path = getattr(module, "__file__", None)
            if path:
                self.states[path] = state_of(path, before_ns=began_ns)
        self.packages = {name: module.__file__ for name, module in loaded.items() if "." not in name}

    def drop_if_changed(self) -> bool:
        """Forget all of them unless each file is unchanged and `sys.path` leads to the same packages; return whether.

        They refer to each other, so all are dropped or none. The job then imports them from the checkout of its client
        in its present state.
        """
        if self._unchanged():
            return False
        for name in self.names:
            del sys.modules[name]
        return True

    def _unchanged(self) -> bool:
        return all(state is not None and state == state_of(path) for path, state in self.states.items()) and all(
            origin_of(name) == path for name, path in self.packages.items()
        )


def state_of(path: str, before_ns: int | None = None) -> State | None:
    """State of a file; None if it is not there, or has changed after `before_ns`: what was imported is then unknown."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if before_ns is not None and status.st_mtime_ns >= before_ns:
        return None
    return status.st_mtime_ns, status.st_size


def origin_of(package: str) -> str | None:
    """Path of the file that `import package` would read now, whether or not the package is imported already."""
    for finder in sys.meta_path:
        spec = finder.find_spec(package, None)
        if spec is not None:
            return spec.origin
    return None
