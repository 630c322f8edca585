"""Jobs on the whole lake: refresh all its tables, and remove old files."""
