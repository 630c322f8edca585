"""Arithmetic of encode: arrays only, no Spark."""
