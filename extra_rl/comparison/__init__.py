"""The comparison of a finished experiment: figures, differences, spending, and the terminal's tables."""
