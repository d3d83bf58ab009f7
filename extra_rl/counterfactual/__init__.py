"""What other settings would have made of the rollouts of a finished iteration (docs/counterfactuals.md)."""
