"""Causal language models of any family: how they are loaded, what they are made of, and what was measured of them."""
