"""Arithmetic of topk: arrays only, no Spark."""
