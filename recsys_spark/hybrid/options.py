"""Configuration keys of the hybrid item weights."""

from pydantic import Field

from recsys_spark.events.options import HistoryOptions
from recsys_spark.hybrid.item_weights import WeightFit
from recsys_spark.publish.options import RefitOptions


class WeightOptions(HistoryOptions, RefitOptions):
    """Keys of the fit of item weights on events and texts."""

    hybrid_candidates: int = Field(100, ge=1, description="hybrid: most items that the score of an item sums over")
    hybrid_vector_weight: float = Field(
        3.0, ge=0, description="hybrid: number of common users that a cosine of 1 between text embeddings is worth"
    )
    hybrid_word_weight: float = Field(
        3.0, ge=0, description="hybrid: number of common users that a TF-IDF cosine of 1 between texts is worth"
    )
    hybrid_whitening: float = Field(
        0.1,
        ge=0,
        description="hybrid: shrinkage of the relaxed whitening of text embeddings; independent of the key whitening",
    )
    hybrid_ridge: float = Field(100.0, gt=0, description="hybrid: ridge penalty of the regression of an item, in users")
    hybrid_max_events: int = Field(
        50_000_000,
        ge=1,
        description="hybrid: with more events, weights are fitted on a sample of the users, drawn by a hash",
    )
    hybrid_nprobe: int = Field(
        0, ge=0, description="hybrid: item clusters, of about 2·√items, that are searched for text neighbours; 0: all"
    )

    @property
    def weight_fit(self) -> WeightFit:
        """Settings that weights depend on beside the tables."""
        return WeightFit(
            candidates=self.hybrid_candidates,
            vector_weight=self.hybrid_vector_weight,
            word_weight=self.hybrid_word_weight,
            ridge=self.hybrid_ridge,
            nprobe=self.hybrid_nprobe,
        )
