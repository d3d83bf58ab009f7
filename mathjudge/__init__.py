"""Judge a free-form mathematical answer against a reference answer. The response is untrusted text."""
