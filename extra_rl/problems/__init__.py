"""The problems of a run: read or generated, cleaned, split, and rendered as prompts."""
