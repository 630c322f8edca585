"""The service: where it reads, its routes, start and end."""
