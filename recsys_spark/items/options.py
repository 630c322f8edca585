"""Configuration keys of item vectors."""

from pydantic import Field

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.items.vectors import FeatureBlocks
from recsys_spark.publish.options import RefitOptions


class BlockOptions(RefitOptions):
    """Item vectors from weighted feature blocks."""

    text_weight: float = Field(1.0, gt=0, description="weight of the text block in a score")
    category_weight: float = Field(0.2, ge=0, description="weight of the category block; 0 leaves it out")
    brand_weight: float = Field(0.1, ge=0, description="weight of the brand block; 0 leaves it out")
    price_weight: float = Field(0.05, ge=0, description="weight of the price block; 0 leaves it out")
    image_weight: float = Field(
        0.2, ge=0, description="weight of the image block (image_vec of items); 0 leaves it out"
    )
    collaborative_weight: float = Field(
        0.0, ge=0, description="weight of the collaborative block (users in common); 0 leaves it out"
    )
    category_dimension: int = Field(64, ge=1, description="width of the hashed category block")
    brand_dimension: int = Field(32, ge=1, description="width of the hashed brand block")
    collaborative_dimension: int = Field(128, ge=1, description="width of the projected collaborative block")
    category_prices: int = Field(
        20,
        ge=2,
        description="minimum number of prices for a category to have price quantiles of its own; below it, those of "
        "the catalogue",
    )
    whitening: float | None = Field(
        None, ge=0, description="shrinkage of the whitening of the text block, typically 0.1; default: no whitening"
    )
    refit_whitening: bool = Field(False, description="fit the whitening again in this run")
    refit_prices: bool = Field(False, description="compute the price quantiles again in this run")

    @property
    def blocks(self) -> FeatureBlocks:
        """The feature blocks."""
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
