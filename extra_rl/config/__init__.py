"""The user's configuration: sections, arms, regimes and presets. It is validated here; nothing here acts on it."""
