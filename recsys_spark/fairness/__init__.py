"""Fair lists: exposure of items, calibration to a user's tastes."""
