"""States of the generators that a training draws from. Imports torch."""

from collections.abc import Mapping

import torch


def random_states(device: torch.device | str) -> dict[str, torch.Tensor]:
    """By name: the CPU's and, where ``device`` is a GPU, its own, which dropout there draws from."""
    own = torch.device(device)
    of_gpu = {"random_gpu": torch.cuda.get_rng_state(own)} if own.type == "cuda" else {}
    return {"random": torch.get_rng_state(), **of_gpu}


def set_random_states(states: Mapping[str, torch.Tensor], device: torch.device | str) -> None:
    """Draw again from where ``random_states`` was asked."""
    torch.set_rng_state(states["random"])
    if "random_gpu" in states and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["random_gpu"], torch.device(device))
