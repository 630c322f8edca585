"""Items packed into files that joins stream, and their clusters."""
