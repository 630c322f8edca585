"""Inference engines: PyTorch, ONNX Runtime and OpenVINO behind one function. Imports torch."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.encode.kernels.loading import load_transformer
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.encode.kernels.packed_linear import can_pack, pack_linear_layers
from recsys_spark.errors import UsageError

Ids = NDArray[np.int64]

Engine = Callable[[Ids, Ids], torch.Tensor]
"""(n, t) token ids and their (n, t) mask of 0 and 1 to (n, t, d) token vectors on the engine's device."""

PACKAGES = {"onnx": "onnxruntime onnx onnxscript", "openvino": "openvino"}
"""Python packages that an engine needs, as in the extras of setup.py."""


def torch_engine(folder: str, device: str, precision: str) -> Engine:
    """PyTorch in ``fp32`` or ``bf16`` with its fused attention.

    Position ids follow the mask, so padding may be on either side.
    """
    model = load_transformer(folder, torch.bfloat16 if precision == "bf16" else torch.float32).to(device)
    model.config.use_cache = False  # a decoder would store keys and values that nothing reads
    if device == "cpu" and precision == "fp32" and can_pack():
        with torch.inference_mode():
            pack_linear_layers(model)

    @torch.inference_mode()
    def run(ids: Ids, mask: Ids) -> torch.Tensor:
        tokens, attention = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        left_padded = {} if mask[:, 0].all() else {"position_ids": (attention.cumsum(1) - 1).clamp(min=0)}
        return model(input_ids=tokens, attention_mask=attention, **left_padded).last_hidden_state

    return run


def onnx_engine(folder: str, threads: int) -> Engine:
    """ONNX Runtime on the CPU."""
    onnxruntime = _package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other tasks need the cores
    session = onnxruntime.InferenceSession(
        str(transformer_folder(Path(folder)) / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda ids, mask: torch.from_numpy(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def openvino_engine(folder: str, threads: int) -> Engine:
    """OpenVINO on the CPU, in fp32 even where the machine has a faster type: vectors of two machines must agree."""
    openvino = _package("openvino", "openvino")
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = (
        openvino.Core()
        .compile_model(transformer_folder(Path(folder)) / "openvino.xml", "CPU", settings)
        .create_infer_request()
    )
    return lambda ids, mask: torch.from_numpy(np.array(request.infer([ids, mask])[0]))


def _package(name: str, engine: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise missing_package(engine, name) from error


def missing_package(engine: str, name: str) -> UsageError:
    """The error for an engine that is not installed, with the command that installs it."""
    return UsageError(
        f"engine '{engine}' needs the package {name}, here and on all executors: {sys.executable} -m pip install "
        + PACKAGES[engine]
    )
