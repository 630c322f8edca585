"""Configuration keys of the hybrid item weights."""

from pydantic import Field

from recsys_spark.events.options import HistoryOptions, TrustOptions
from recsys_spark.hybrid.item_weights import WeightFit
from recsys_spark.publish.options import RefitOptions


class WeightOptions(HistoryOptions, RefitOptions):
    """Keys of the fit of item weights on events and texts."""

    hybrid_candidates: int = Field(
        100, ge=1, description="hybrid: maximum number of neighbours per item; the score of an item is a sum over them"
    )
    hybrid_vector_weight: float = Field(
        3.0, ge=0, description="hybrid: weight of text embeddings; a cosine of 1 counts as much as N common users"
    )
    hybrid_word_weight: float = Field(
        3.0,
        ge=0,
        description="hybrid: weight of the words of texts; a TF-IDF cosine of 1 counts as much as N common users",
    )
    hybrid_whitening: float = Field(
        0.1,
        ge=0,
        description="hybrid: shrinkage of the relaxed whitening of text embeddings; independent of the key whitening",
    )
    hybrid_ridge: float = Field(100.0, gt=0, description="hybrid: ridge penalty of each item's regression, in users")
    hybrid_max_events: int = Field(
        50_000_000,
        ge=1,
        description="hybrid: above this number of events, fit weights on a hash sample of the users",
    )
    hybrid_nprobe: int = Field(
        0,
        ge=0,
        description="hybrid: number of item clusters, out of about 2·√items, searched for text neighbours; 0: all",
    )

    @property
    def weight_fit(self) -> WeightFit:
        """Settings that weights depend on, besides the tables."""
        return WeightFit(
            candidates=self.hybrid_candidates,
            vector_weight=self.hybrid_vector_weight,
            word_weight=self.hybrid_word_weight,
            ridge=self.hybrid_ridge,
            nprobe=self.hybrid_nprobe,
        )


class FitOptions(WeightOptions, TrustOptions):
    """Keys of the fit of item weights on events and texts."""
