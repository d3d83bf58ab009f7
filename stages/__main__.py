"""`python -m stages <name> ...`: gives the job to the warm worker where there is one, else runs it here.

The path to the worker imports only the standard library, so that a stage costs only its computation.
"""

import sys

from extra_rl.worker import client

if __name__ == "__main__":
    code = client.run("stages.command", sys.argv[1:])
    if code is None:
        from stages import command

        code = command.main(sys.argv[1:])
    sys.exit(code)
