"""Jobs on the whole lake: refresh and vacuum."""
