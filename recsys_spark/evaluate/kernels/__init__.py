"""Arithmetic of evaluate: arrays only, no Spark."""
