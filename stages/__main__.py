"""`python -m stages <name> ...`: gives the job to the warm worker where there is one, else runs it here.

The path to the worker imports only the standard library, so that a stage costs only its computation. Ctrl-C ends it
without a traceback.
"""

import os
import sys


def main() -> int:
    """Run the command; return its exit code."""
    from extra_rl.worker import client

    code = client.run("stages.command", sys.argv[1:])
    if code is not None:
        return code
    from extra_rl.worker import tether

    tether.end_with(os.environ.get(tether.RUN_VARIABLE))
    from stages import command

    return command.main(sys.argv[1:])


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130  # as in a shell: 128 + SIGINT
    sys.exit(status)
