"""Steps of report: read tables, call transformations, write the page."""
