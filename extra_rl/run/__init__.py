"""How a stage runs: its declaration, execution, record, console output and the run's lock."""
