"""One file a command: `HELP`, `add_arguments(parser)`, `run(arguments) -> exit code`. Heavy imports happen in `run`."""
