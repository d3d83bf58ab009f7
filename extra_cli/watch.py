"""Follow a run in the terminal: progress, figures of its last iterations, running jobs, and what needs attention.

extra watch results/tiny
extra watch results/tiny --every 30
extra watch results/tiny --once | less
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from extra_rl.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from extra_rl.watch.state import Follower, State

HELP = "follow a run: progress, figures, running jobs, warnings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of a run, for example results/tiny; it need not exist yet")
    parser.add_argument("--once", action="store_true", help="print one frame and end; so it is without a terminal")
    parser.add_argument("--every", type=seconds, default=5.0, metavar="SECONDS", help="time between two looks, 5")
    parser.add_argument(
        "--stalled", type=seconds, default=10.0, metavar="MINUTES", help="warn after this long without a change, 10"
    )


def seconds(text: str) -> float:
    """Return a positive number; argparse reports the ValueError."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def run(arguments: argparse.Namespace) -> int:
    try:
        return watch(arguments)
    except KeyboardInterrupt:  # before the first frame
        return 130


def watch(arguments: argparse.Namespace) -> int:
    """Print one frame, or follow the run in a terminal."""
    from rich.console import Console

    from extra_rl.watch.state import Follower

    console = Console(highlight=False, markup=False, emoji=False)
    follower = Follower(arguments.results)
    if arguments.once or not console.is_terminal:
        state = follower.look()
        if state.phase == "absent":
            raise InputError(f"{arguments.results}: no such folder yet. Without --once, a terminal waits for it.")
        console.print(rendered(state, console, arguments.stalled))
        return 0
    signal.signal(signal.SIGTERM, _end)
    return follow(follower, console, arguments.every, arguments.stalled)


def follow(follower: Follower, console: Console, every: float, stalled: float) -> int:
    """Show frames until the run has finished or Ctrl-C is pressed; the last frame stays on the terminal. Return 0."""
    from rich.live import Live

    state = None
    try:
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                state = follower.look()
                if state.phase == "finished":
                    break
                live.update(rendered(state, console, stalled, height=console.height), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    if state is not None:
        console.print(rendered(state, console, stalled))
    return 0


def rendered(state: State, console: Console, stalled: float, height: int | None = None) -> Group:
    """Return a frame as wide as the console.

    Args:
        state: of the run.
        console: gives the width and the encoding.
        stalled: minutes without a change after which a running run is called stalled.
        height: lines of the frame; None: no limit.
    """
    from rich.console import Group

    from extra_rl.watch.frame import frame
    from extra_rl.watch.notes import notes_of

    plain = not (console.encoding or "").lower().startswith("utf")
    return Group(*frame(state, notes_of(state, stalled), console.width, height, plain=plain))


def _end(number: int, stack: FrameType | None) -> None:
    """Leave by an exception, so that the terminal gets its screen back."""
    raise SystemExit(128 + number)
