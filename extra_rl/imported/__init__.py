"""Rollouts that other programs sampled: their files, read into the tables of a run."""
