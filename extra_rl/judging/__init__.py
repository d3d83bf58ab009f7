"""Which verifier judges which response: mathematics, the task's own, Reasoning Gym, a command."""
