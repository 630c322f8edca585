"""The HTML report on a lake."""
