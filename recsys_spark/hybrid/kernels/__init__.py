"""Arithmetic of hybrid: arrays only, no Spark."""
