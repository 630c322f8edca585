"""Arithmetic of tune: arrays only, no Spark."""
