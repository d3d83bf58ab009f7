"""`python -m extra_rl.worker`: the server process."""

from extra_rl.worker.server import main

if __name__ == "__main__":
    main()
