"""Arithmetic of segments on arrays: no Spark."""
