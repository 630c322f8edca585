"""Configuration keys of the hybrid item weights."""

from pydantic import Field

from recsys_spark.events.options import HistoryOptions
from recsys_spark.hybrid.item_weights import WeightFit
from recsys_spark.publish.options import RefitOptions


class WeightOptions(HistoryOptions, RefitOptions):
    """Events and texts to item weights."""

    hybrid_candidates: int = Field(100, ge=1, description="hybrid: items that an item's score is a sum over, at most")
    hybrid_vector_weight: float = Field(
        3.0, ge=0, description="hybrid: users in common that a cosine of 1 of two texts' vectors counts as"
    )
    hybrid_word_weight: float = Field(
        3.0, ge=0, description="hybrid: users in common that a cosine of 1 of two texts (TF-IDF) counts as"
    )
    hybrid_whitening: float = Field(
        0.1, ge=0, description="hybrid: shrink of the relaxed whitening of the texts' vectors, whatever lists use"
    )
    hybrid_ridge: float = Field(100.0, gt=0, description="hybrid: ridge of the regression of an item, in users")
    hybrid_max_events: int = Field(
        50_000_000, ge=1, description="hybrid: with more events it is fitted on a sample of the users, drawn by a hash"
    )
    hybrid_nprobe: int = Field(
        0, ge=0, description="hybrid: lists of items, of about 2·√items, in which text neighbours are sought; 0: in all"
    )

    @property
    def weight_fit(self) -> WeightFit:
        """What weights depend on beside the tables."""
        return WeightFit(
            candidates=self.hybrid_candidates,
            vector_weight=self.hybrid_vector_weight,
            word_weight=self.hybrid_word_weight,
            ridge=self.hybrid_ridge,
            nprobe=self.hybrid_nprobe,
        )
