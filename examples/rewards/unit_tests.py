"""A judge for Python programs: they run in a sandbox with the unit tests of their problem, one `assert` a line.

    snakemake --snakefile ../../workflow/Snakefile --cores 2 --configfile unit_tests.yaml

The sandbox (extra_rl.judging.sandbox) says what it does not protect from. This judge does not protect from cheating
either: the program and its tests share an interpreter, so a program that looks for the tests can pass them. The random
token only ensures that a program which ends early, or prints a number, does not count as one that passes.
"""

from __future__ import annotations

import re
import secrets

from extra_rl.judging.sandbox import run_python

FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)

HARNESS = """
def _run(tests):
    passed = 0
    for test in tests:
        try:
            exec(test, globals())
            passed += 1
        except Exception:
            pass
    return passed
print({token!r}, _run({tests!r}))
"""


def score(reference: str, response: str) -> str | dict[str, float]:
    """Return `passed`, the share of the tests that pass, and `correct`, 1 where all do.

    The program is the last fenced block of the response, or the whole response without one.
    """
    blocks = FENCE.findall(response)
    program = blocks[-1] if blocks else response
    if not program.strip():
        return "no_answer"
    tests = [line for line in reference.splitlines() if line.strip()]
    token = secrets.token_hex(16)
    found = run_python(program + HARNESS.format(token=token, tests=tests), cpu_s=2, wall_s=6, memory_mb=512)
    last = (found.stdout.splitlines() or [""])[-1].split()
    passed = int(last[1]) if len(last) == 2 and last[0] == token and found.succeeded else 0
    return {"correct": float(passed == len(tests)), "passed": passed / len(tests)}
