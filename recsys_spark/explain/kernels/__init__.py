"""Attribution arithmetic: arrays only, no Spark."""
