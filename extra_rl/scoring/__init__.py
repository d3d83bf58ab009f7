"""The policy's forward pass over given tokens: logprob and exact entropy of every response token."""
