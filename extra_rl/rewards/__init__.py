"""Judging a response: verdicts, and the verifiers that give them. Model output is untrusted text."""
