"""A small HTTP service that answers with exported lists and neighbours."""
