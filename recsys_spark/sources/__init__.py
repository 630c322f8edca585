"""The files a user has, read as rows: listing, format detection, queries, the dataset file."""
