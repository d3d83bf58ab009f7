"""Metrics of a run for trackers: written from finished tables, each iteration once (docs/tracking.md)."""
