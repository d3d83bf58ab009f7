"""Prefixes to continue: cuts of incorrect rollouts, their ranks and past results, and the bank of replays."""
