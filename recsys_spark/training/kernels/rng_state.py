"""States of the random generators that training draws from. Imports torch."""

from collections.abc import Mapping

import torch


def random_states(device: torch.device | str) -> dict[str, torch.Tensor]:
    """Generator states by name: the CPU's and, if ``device`` is a GPU, that GPU's, which its dropout draws from."""
    target = torch.device(device)
    gpu_state = {"random_gpu": torch.cuda.get_rng_state(target)} if target.type == "cuda" else {}
    return {"random": torch.get_rng_state(), **gpu_state}


def set_random_states(states: Mapping[str, torch.Tensor], device: torch.device | str) -> None:
    """Set the generators to the states that ``random_states`` returned."""
    torch.set_rng_state(states["random"])
    if "random_gpu" in states and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["random_gpu"], torch.device(device))
