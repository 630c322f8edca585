"""Publish the result of a step: pin inputs, compare with the last run, audit, commit, log changes."""
