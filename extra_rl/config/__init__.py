"""The user's configuration: sections, arms, regimes and presets. This package validates it and never acts on it."""
