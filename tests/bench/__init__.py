"""Helpers that several tests share; pytest collects nothing here."""
