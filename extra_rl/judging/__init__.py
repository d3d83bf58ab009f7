"""Dispatch of responses to verifiers: mathematics, generated tasks, Reasoning Gym, and a user's command."""
