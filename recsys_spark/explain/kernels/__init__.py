"""Arithmetic of explain: arrays only, no Spark."""
