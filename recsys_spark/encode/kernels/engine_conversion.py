"""Convert a transformer once, on the driver, for a faster engine: ONNX Runtime in fp32 or int8, OpenVINO in fp32.

int8 is static quantisation: activations have fixed scales, measured on calibration texts, so that a vector does not
depend on the other texts of its batch (dynamic quantisation takes its scale from the whole batch). Before that, each
channel's outliers are moved from the activations into the weights (SmoothQuant: Xiao et al., ICML 2023).
"""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from recsys_spark.encode.kernels.calibration_texts import TEXTS
from recsys_spark.encode.kernels.engines import PACKAGES, missing_package
from recsys_spark.encode.kernels.folder_settings import max_length_of
from recsys_spark.encode.kernels.loading import load_tokenizer, load_transformer
from recsys_spark.encode.kernels.modules import module_files, transformer_folder
from recsys_spark.errors import UsageError

MIGRATION = 0.75
"""SmoothQuant's migration strength, the share of the outliers that moves into the weights; 0.5 leaves too many in the
activations (benchmarks/LOG.md)."""


class _Tokens(torch.nn.Module):
    """The converted part of a model: token ids and mask to token vectors."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(n, t) ids and (n, t) mask to (n, t, d) token vectors."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state


class _Smoothed(torch.nn.Module):
    """``linear(x)`` as ``linear'(x · inverse)``: the same function, with channels of x at similar scales."""

    def __init__(self, linear: torch.nn.Linear, inverse: torch.nn.Parameter) -> None:
        super().__init__()
        self.inverse, self.linear = inverse, linear
        linear.weight.data = linear.weight.data / inverse.data

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, n) to (…, m): scaled input times scaled weights."""
        return self.linear(x * self.inverse)


def convert(folder: str, engine: str, precision: str, target: Path) -> None:
    """Convert the model in ``folder`` to the folder ``target``: the engine's file, tokenizer and configuration.

    ``engine`` is ``onnx`` or ``openvino``; ``precision`` is ``fp32``, or ``int8`` for onnx. ``target`` appears only
    when it is complete.

    Raises:
        UsageError: a package of the engine is missing, or the engine cannot express this architecture.
    """
    if missing := [name for name in PACKAGES[engine].split() if find_spec(name) is None]:
        raise missing_package(engine, missing[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    model = load_transformer(folder, torch.float32)
    with TemporaryDirectory(dir=target.parent, prefix=".converting-") as scratch:
        staging = Path(scratch) / target.name
        inner = staging / transformer_folder(Path(folder)).relative_to(folder)
        inner.mkdir(parents=True)
        try:
            with quiet(), torch.no_grad():
                _write(model, folder, engine, precision, inner)
        except Exception as error:
            kind = type(model).__name__
            raise UsageError(f"engine '{engine}' cannot convert a {kind} ({error}); use --engine=torch") from error
        for path in module_files(Path(folder)):
            if path.parent != transformer_folder(Path(folder)) or path.suffix in (".json", ".txt", ".model"):
                (staging / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, staging / path.relative_to(folder))
        if not target.exists():  # another run may have been faster
            staging.rename(target)


def _write(model: torch.nn.Module, folder: str, engine: str, precision: str, target: Path) -> None:
    if engine == "openvino":
        _openvino(model, target / "openvino.xml")
    elif precision == "int8":
        _int8(model, _calibration_ids(folder), target / "model.onnx")
    else:
        _onnx(model, target / "model.onnx")


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    # The example has padding, because tracing may optimise a mask of ones away.
    return torch.ones(2, 7, dtype=torch.long), torch.tensor([[1] * 7, [1] * 5 + [0] * 2])


def _onnx(model: torch.nn.Module, file: Path) -> None:
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        _Tokens(model).eval(),
        _example(),
        file,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _openvino(model: torch.nn.Module, file: Path) -> None:
    import openvino

    graph = openvino.convert_model(_Tokens(model).eval(), example_input=_example())
    openvino.save_model(graph, file, compress_to_fp16=False)


def _int8(model: torch.nn.Module, rows: Sequence[Sequence[int]], file: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calibration(CalibrationDataReader):
        waiting = iter(rows)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.waiting, None)
            return {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)} if row else None

    _smooth(model, rows)
    fp32 = file.with_name("fp32.onnx")
    _onnx(model, fp32)
    quant_pre_process(str(fp32), str(fp32), skip_symbolic_shape=True)
    quantize_static(
        str(fp32),
        str(file),
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,  # 7-bit weights: two 8-bit products overflow the 16-bit sums of AVX2
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=_weighted_products(fp32),
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
    )
    fp32.unlink()


def _weighted_products(path: Path) -> list[str]:
    """Names of the products with weights. Products within attention stay in fp32: int8 loses accuracy there and saves
    little."""
    import onnx

    graph = onnx.load(path).graph
    constants = {constant.name for constant in graph.initializer}
    return [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants]


def _smooth(model: torch.nn.Module, rows: Sequence[Sequence[int]]) -> None:
    """Move outliers from activations into weights (SmoothQuant), in place.

    Linear layers that read the same tensor share one scale, so that the tensor is scaled and quantised once.
    """
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    for names, peak in _peaks(model, linears, rows):
        weights = torch.cat([linears[name].weight.data for name in names]).abs().amax(0).clamp(min=1e-5)
        inverse = weights ** (1 - MIGRATION) / peak.clamp(min=1e-5) ** MIGRATION
        scale = torch.nn.Parameter(inverse, requires_grad=False)
        for name in names:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _Smoothed(linears[name], scale))


def _peaks(
    model: torch.nn.Module, linears: dict[str, torch.nn.Linear], rows: Sequence[Sequence[int]]
) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Yield (names of the layers that read one tensor, (channels,) largest absolute value of each of its channels)."""
    peaks: dict[str, torch.Tensor] = {}
    inputs: dict[str, torch.Tensor] = {}  # holding them ensures that no two tensors of a pass have the same address

    def record(name: str, x: torch.Tensor) -> None:
        inputs[name] = x
        peak = x.abs().flatten(0, -2).amax(0)
        peaks[name] = torch.maximum(peaks.get(name, peak), peak)

    hooks = [
        layer.register_forward_pre_hook(lambda _, arguments, name=name: record(name, arguments[0]))
        for name, layer in linears.items()
    ]
    for row in rows:
        model(input_ids=torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    readers: dict[int, list[str]] = {}
    for name, x in inputs.items():
        readers.setdefault(x.data_ptr(), []).append(name)
    for names in readers.values():
        yield names, peaks[names[0]]


def _calibration_ids(folder: str) -> list[list[int]]:
    tokenizer = load_tokenizer(folder)
    return list(tokenizer(list(TEXTS), truncation=True, max_length=min(128, max_length_of(Path(folder))))["input_ids"])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars, warnings and advice of exporters and loaders: users cannot act on them."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as sink,
            redirect_stdout(sink),
            redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
