"""Offline studies of finished iterations: counterfactual variants, gradient noise, signals in prefixes."""
