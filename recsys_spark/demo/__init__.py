"""The demo on MovieLens 100K, from the download to recommendations and a report."""
