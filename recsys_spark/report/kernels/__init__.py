"""Arithmetic of report: arrays only, no Spark."""
