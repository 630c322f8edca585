"""Arithmetic of profiles: arrays only, no Spark."""
