"""Judges that misbehave on demand; in a separate module, since workers import a judge by its name."""

from __future__ import annotations

import os
import time

from mathjudge import Item, Judgement, Verdict


def echo(item: Item) -> Judgement:
    return Judgement(Verdict.RIGHT, item.response, "echo")


def awkward(item: Item) -> Judgement:
    match item.response:
        case "loop":
            while True:
                pass
        case "c_loop":
            sum(range(10**12))
        case "sleep":
            time.sleep(60)
        case "memory":
            bytearray(4 * 2**30)
        case "die":
            os._exit(3)
        case "bug":
            raise KeyError("bug")
        case "pid":
            return Judgement(Verdict.RIGHT, str(os.getpid()), "pid")
    return Judgement(Verdict.RIGHT, item.response, "fine")


def forgetful(item: Item) -> Judgement | None:
    """Returns nothing for the response "nothing"."""
    return None if item.response == "nothing" else echo(item)
