"""From rollouts with advantages to optimizer steps and the next policy."""
