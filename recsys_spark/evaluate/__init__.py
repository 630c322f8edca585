"""Metrics of lists, and scorers compared under a protocol."""
