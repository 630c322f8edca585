"""Arithmetic of blocks: arrays only, no Spark."""
