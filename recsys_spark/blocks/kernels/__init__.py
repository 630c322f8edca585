"""Clustering of item vectors: arrays only, no Spark."""
