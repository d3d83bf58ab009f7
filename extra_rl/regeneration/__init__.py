"""Candidate prefixes: where rollouts are cut, how cuts are ranked, which are remembered."""
