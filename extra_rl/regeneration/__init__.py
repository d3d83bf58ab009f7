"""Candidate prefixes for regeneration: cuts of incorrect rollouts, their ranks, and the pool of later iterations."""
