"""Model checkpoints on disk: reading them whole or refusing them, and the digests of what a run has written."""
