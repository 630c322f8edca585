"""Arithmetic of the sequence encoder: arrays only, no Spark."""
