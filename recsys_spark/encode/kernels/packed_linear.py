"""Linear layers whose weights are laid out for oneDNN once, instead of for every product. Imports torch.

PyTorch multiplies fp32 with MKL, which leaves AVX-512 unused on processors of other makers than its own; oneDNN, which
PyTorch brings along, does not. On an AMD EPYC with AVX-512, one core, 512 × 384 times 384 × 1,536: 108 against 250
Gflop/s.
"""

from typing import Any

import torch
from torch import nn

_ROWS = 512  # of the products that the layout is made for: the tokens of a batch


class PackedLinear(nn.Module):
    """y = x·Wᵀ + b in fp32, as ``nn.Linear``. A row of y has the same bits whatever the other rows of x."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, n) to (…, m)."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def can_pack() -> bool:
    """Whether this build of PyTorch has the products (those that its compiler uses)."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack_linear_layers(model: Any) -> None:
    """Replace every ``nn.Linear`` of a model in fp32 on the CPU, in place; its own weights are let go."""
    for name, layer in model.named_children():
        if type(layer) is nn.Linear:
            setattr(model, name, PackedLinear(layer))
        else:
            pack_linear_layers(layer)
