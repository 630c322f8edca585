"""Sequence encoders that were not trained: random numbers in the folder of a model."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from recsys_spark.items.kernels.whitening import Whitening
from recsys_spark.sequence.kernels.model_files import SequenceFiles
from recsys_spark.sequence.kernels.shape import Shape
from recsys_spark.sequence.kernels.transformer import StateEncoder

SHAPE = Shape(width=8, layers=1, heads=2, length=3)


def random_model(ids: Sequence[str], encoder: str, *, dimension: int, seed: int = 0) -> SequenceFiles:
    """A model of these items, whose item vectors have very different lengths."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    transformer = StateEncoder(SHAPE)
    with torch.no_grad():
        transformer.places.mul_(50)  # places count
    sizes = rng.uniform(0.1, 1.0, (len(ids), 1))
    return SequenceFiles(
        shape=SHAPE,
        encoder=encoder,
        shrink=0.1,
        whitening=Whitening(np.full(dimension, 0.01), np.eye(dimension)),
        ids=pa.array(ids),
        text_map=rng.normal(size=(dimension, SHAPE.width)).astype(np.float32),
        offsets=(sizes * rng.normal(size=(len(ids), SHAPE.width))).astype(np.float32),
        transformer={name: values.numpy().copy() for name, values in transformer.state_dict().items()},
    )
