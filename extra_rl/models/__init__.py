"""What a model is read with: its chat template and the tokens that end a response."""
