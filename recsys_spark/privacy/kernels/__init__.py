"""Arithmetic and text kernels of privacy."""
