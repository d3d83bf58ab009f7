"""The method's mathematics: pure functions on arrays and tensors; no files, no configuration, no model."""
