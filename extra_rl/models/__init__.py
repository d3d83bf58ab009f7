"""Causal language models of any family: loading, parts, policies on disk, and the probe of their fast paths."""
