"""Steps of catalog: they read the logs of tables and write SQL."""
