"""The mathematics of the method: pure functions of arrays and tensors, without files, configuration or models."""
