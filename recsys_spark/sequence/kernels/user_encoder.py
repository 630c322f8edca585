"""A trained transformer in a worker process: loaded once, used for one batch of users after another. Imports torch."""

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError
from recsys_spark.sequence.kernels.model_files import SequenceFiles
from recsys_spark.sequence.kernels.sequence_task import user_states
from recsys_spark.sequence.kernels.transformer import StateEncoder

Rows = NDArray[np.int64]

_LOADED: dict[tuple[str, str], StateEncoder] = {}
"""The transformer of this process, by fingerprint and device."""


def state_encoder(model: SequenceFiles, device: str) -> StateEncoder:
    """The transformer of a model, loaded at the first call.

    Raises:
        InputError: its weights are not those of its shape.
    """
    key = model.fingerprint, device
    if key not in _LOADED:
        encoder = StateEncoder(model.shape)
        try:
            encoder.load_state_dict({name: torch.from_numpy(values) for name, values in model.transformer.items()})
        except RuntimeError as error:
            raise InputError(f"sequence_model {model.fingerprint} is broken: {error}") from error
        _LOADED.clear()
        _LOADED[key] = encoder.to(device).eval()
    return _LOADED[key]


def encoded_users(
    model: SequenceFiles, vectors: Matrix, items: Rows, offsets: Rows, device: str, threads: int
) -> Matrix:
    """(u, width) the state after the last event of each history; zeros for an empty history.

    Args:
        vectors: (n, width) of items.
        items: (e,) rows of ``vectors``, each history's oldest event first.
        offsets: (u + 1,) where each history begins, and the end of the last.
        device: such as cpu.
        threads: of the CPU.
    """
    torch.set_num_threads(threads)
    return user_states(state_encoder(model, device), model.shape, vectors, items, offsets)
