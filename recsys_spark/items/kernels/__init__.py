"""Arithmetic of items: arrays only, no Spark."""
