"""The report of a run (`report.html`, one self-contained page) and the terminal's view of iterations and rollouts."""
