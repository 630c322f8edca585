"""Linear layers whose weights are packed for oneDNN once, instead of in every product. Imports torch.

PyTorch multiplies fp32 with MKL, which uses AVX-512 only on Intel processors; oneDNN, which PyTorch ships too, uses it
on all. One core of an AMD EPYC with AVX-512, 512 × 384 times 384 × 1,536: MKL 108 Gflop/s, oneDNN 250 Gflop/s.
"""

from typing import Any

import torch
from torch import nn

_ROWS = 512  # the layout is chosen for products of this many rows, the tokens of a batch


class PackedLinear(nn.Module):
    """y = x·Wᵀ + b in fp32, as ``nn.Linear``. The bits of a row of y depend only on the same row of x."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, n) to (…, m)."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def can_pack() -> bool:
    """Whether this build of PyTorch has the packed product, which its compiler uses."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack_linear_layers(model: Any) -> None:
    """Replace every ``nn.Linear`` of a fp32 model on the CPU, in place; the unpacked weights are freed."""
    for name, layer in model.named_children():
        if type(layer) is nn.Linear:
            setattr(model, name, PackedLinear(layer))
        else:
            pack_linear_layers(layer)
