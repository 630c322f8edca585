"""Configuration keys of item vectors. Units are in the descriptions: ``JOB --help`` shows them."""

from pydantic import Field

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.items.vectors import FeatureBlocks
from recsys_spark.publish.options import RefitOptions


class BlockOptions(RefitOptions):
    """Item vectors as weighted unit blocks."""

    text_weight: float = Field(1.0, gt=0, description="weight of the text block in a score")
    category_weight: float = Field(0.2, ge=0, description="weight of the category block; 0 leaves it out")
    brand_weight: float = Field(0.1, ge=0, description="weight of the brand block; 0 leaves it out")
    price_weight: float = Field(0.05, ge=0, description="weight of the price block; 0 leaves it out")
    image_weight: float = Field(
        0.2, ge=0, description="weight of the given vectors, image_vec of items; 0 leaves it out"
    )
    collaborative_weight: float = Field(
        0.0, ge=0, description="weight of the collaborative block, users in common; 0 leaves it out"
    )
    category_dimension: int = Field(64, ge=1, description="numbers in the hashed category block")
    brand_dimension: int = Field(32, ge=1, description="numbers in the hashed brand block")
    collaborative_dimension: int = Field(128, ge=1, description="numbers in the projected collaborative block")
    category_prices: int = Field(
        20, ge=2, description="prices in a category from which they are compared within it, else in the whole catalogue"
    )
    whitening: float | None = Field(
        None, ge=0, description="shrink of the relaxed whitening of the text block, about 0.1; default: none"
    )
    refit_whitening: bool = Field(False, description="whitening: fit it anew now")
    refit_prices: bool = Field(False, description="price quantiles: take them anew now")

    @property
    def blocks(self) -> FeatureBlocks:
        """The block configuration."""
        return FeatureBlocks(
            text=self.text_weight,
            category=self.category_weight,
            brand=self.brand_weight,
            price=self.price_weight,
            image=self.image_weight,
            category_dimension=self.category_dimension,
            brand_dimension=self.brand_dimension,
            category_prices=self.category_prices,
            collaborative=self.collaborative_weight,
            collaborative_dimension=self.collaborative_dimension,
        )


class VectorOptions(EncoderOptions, BlockOptions):
    """Item vectors of one encoder."""
