"""Sizes of a sequence encoder. Without torch, so that options can name them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of a sequence encoder.

    Args:
        width: numbers in the vector of an item and in a state.
        layers, heads: of the transformer; ``heads`` divides ``width``.
        length: newest events of a history that count.
        dropout: inside the transformer and of its inputs.
        text_dropout: of the text vectors of items.
    """

    width: int = 96
    layers: int = 2
    heads: int = 2
    length: int = 20
    dropout: float = 0.3
    text_dropout: float = 0.1
