"""The comparison of a finished experiment: tables of figures and differences, budgets, the lines of the terminal."""
