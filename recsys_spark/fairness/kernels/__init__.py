"""Arithmetic of re-ranking on arrays: no Spark."""
