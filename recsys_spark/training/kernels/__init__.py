"""Arithmetic of training: arrays only, no Spark."""
