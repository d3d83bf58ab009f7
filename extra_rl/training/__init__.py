"""From rollouts with advantages to optimizer steps."""
