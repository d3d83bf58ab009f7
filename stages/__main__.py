"""`python -m stages <name> ...`: hands the job to the warm worker where there is one, else runs it here.

Only the standard library is imported on the warm path, so that a stage costs what it computes.
"""

import sys

from extra_rl.worker import client

if __name__ == "__main__":
    code = client.run("stages.command", sys.argv[1:])
    if code is None:
        from stages import command

        code = command.main(sys.argv[1:])
    sys.exit(code)
