"""A Spark-native recommender built on language-model embeddings."""

__version__ = "0.1.0"
