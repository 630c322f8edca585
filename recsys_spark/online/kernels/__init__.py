"""Arithmetic of online evaluation: arrays only, no Spark."""
