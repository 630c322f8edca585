"""Arithmetic of the audit of rules."""
