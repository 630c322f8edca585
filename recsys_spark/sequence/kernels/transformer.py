"""A causal transformer over the items of a history: a state after each event, which scores the next item by an inner
product. Imports torch.

SASRec (Kang and McAuley, ICDM 2018) with layer norms first, and items that are a linear map of their text vector plus
an offset of their own, so that an item without events is known by its text.
"""

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.sequence.kernels.shape import Shape


class ItemSide(torch.nn.Module):
    """Vectors of the items, (n, width): text vector · map + offset.

    Args:
        texts: (n, d) whitened unit vectors of the texts; zeros for an item without one.
    """

    def __init__(self, texts: Matrix, shape: Shape) -> None:
        super().__init__()
        self.texts, self._dropout = torch.from_numpy(np.ascontiguousarray(texts, np.float32)), shape.text_dropout
        self.map = torch.nn.Parameter(torch.randn(texts.shape[1], shape.width) / max(texts.shape[1], 1) ** 0.5)
        self.offsets = torch.nn.Parameter(0.02 * torch.randn(len(texts), shape.width))

    def forward(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The vectors of the items ``rows``; None for all."""
        texts, offsets = (self.texts, self.offsets) if rows is None else (self.texts[rows], self.offsets[rows])
        return functional.dropout(texts, self._dropout, self.training) @ self.map + offsets


class StateEncoder(torch.nn.Module):
    """The transformer: vectors of events, (b, l, width), to the states after them, (b, l, width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.places = torch.nn.Parameter(0.02 * torch.randn(shape.length, shape.width))
        self.layers = torch.nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm, self._dropout = torch.nn.LayerNorm(shape.width), shape.dropout

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        """States; the place of an event counts from the oldest of its sequence."""
        states = functional.dropout(events + self.places[: events.shape[1]], self._dropout, self.training)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class SequenceModel(torch.nn.Module):
    """Items and transformer together, as they are trained."""

    def __init__(self, texts: Matrix, shape: Shape) -> None:
        super().__init__()
        self.items, self.encoder = ItemSide(texts, shape), StateEncoder(shape)

    def forward(self, vectors: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
        """(b, l, width) states.

        Args:
            vectors: (n, width) of all items.
            sequences: (b, l) item numbers, the oldest event first, then PAD.
        """
        # Places of PAD get the first item: no state of an event sees a later place.
        return self.encoder(vectors[sequences.clamp(min=0)])


class _Layer(torch.nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.attention = torch.nn.Linear(width, 3 * width)
        self.out, self.up, self.down = (
            torch.nn.Linear(*sizes) for sizes in ((width, width), (width, 4 * width), (4 * width, width))
        )
        self._heads, self._dropout = shape.heads, shape.dropout

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        batch, length, width = states.shape
        split = self.attention(self.norms[0](states)).view(batch, length, 3, self._heads, width // self._heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        dropout = self._dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        states = states + functional.dropout(mixed, dropout, self.training)
        inner = self.down(functional.gelu(self.up(self.norms[1](states))))
        return states + functional.dropout(inner, dropout, self.training)
