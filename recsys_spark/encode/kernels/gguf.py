"""Unpack a GGUF model to a folder that ``read_model`` and ``Encoder`` take. Imports torch.

``python -m recsys_spark.encode.kernels.gguf FILE.gguf FOLDER``

Unpack once, before the jobs: otherwise every worker would unpack the file, which takes half a minute and far more
memory than the file.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_accelerate_available, is_gguf_available

from recsys_spark.encode.kernels.engine_conversion import quiet
from recsys_spark.errors import InputError, RecsysError, RetryError, UsageError

_MAGIC = b"GGUF"


def convert_gguf(file: Path, target: Path) -> int:
    """Unpack the model in ``file`` to the folder ``target`` and return the number of its parameters.

    The folder holds weights, configuration and tokenizer, without the head that predicts tokens. It appears only when
    it is complete.

    Weights are stored in fp16, half the size of fp32; in fp32 if one of them exceeds the range of fp16.

    Raises:
        InputError: the file is missing, not GGUF, damaged, or one of several files of a model.
        UsageError: a package is missing, transformers does not know the architecture, or the folder exists already.
    """
    _check(file, target)
    with quiet():
        model, tokenizer = _load(file, torch.float16)
        if not all(weight.isfinite().all() for weight in model.parameters()):
            model, tokenizer = _load(file, torch.float32)
        model = _without_gguf(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".converting-") as scratch:
            staging = Path(scratch) / target.name
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
            for weights in staging.glob("*.safetensors"):  # only their owner can read them; workers may be another user
                weights.chmod((staging / "config.json").stat().st_mode)
            staging.rename(target)
    return sum(weight.numel() for weight in model.parameters())


def _check(file: Path, target: Path) -> None:
    """Check everything that can be checked before the slow part."""
    if not file.is_file():
        raise InputError(f"model file {file} does not exist")
    with file.open("rb") as stream:
        start = stream.read(len(_MAGIC))
    if start != _MAGIC:
        raise InputError(f"model file {file} is not GGUF: it begins with {start!r}")
    if target.exists():
        raise UsageError(f"folder {target} exists already: remove it or name another")
    packages = {"accelerate": is_accelerate_available(), "gguf": is_gguf_available()}
    if missing := " and ".join(name for name, installed in packages.items() if not installed):
        raise UsageError(f"reading GGUF needs {missing}: {sys.executable} -m pip install gguf accelerate")


def _load(file: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    unpacked = {}
    if hasattr(transformers, "GgufConfig"):  # such a release leaves weights packed if it has a kernel for them
        unpacked = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        model, loading = AutoModel.from_pretrained(
            file.parent, dtype=dtype, output_loading_info=True, **options, **unpacked
        )
    except MemoryError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if isinstance(error, ImportError | NotImplementedError) or "not supported" in str(error):
            raise UsageError(f"model file {file}: transformers cannot load this kind of model ({reason})") from error
        raise InputError(f"model file {file} cannot be read, is it damaged? ({reason})") from error
    if missing := sorted(loading["missing_keys"]):  # transformers would fill them with random numbers
        raise InputError(
            f"model file {file} lacks {len(missing)} weights ({missing[0]} …); a model in several files must be joined "
            "first (llama-gguf-split --merge)"
        )
    return model, tokenizer


def _without_gguf(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model without GGUF settings: transformers refuses to save one with them."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModel.from_config(config, dtype=model.dtype, trust_remote_code=False)
    plain.load_state_dict(model.state_dict())
    return plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Its last line is JSON; a user's mistake gives one message and the exit code of its kind."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.encode.kernels.gguf", description="Unpack a GGUF model once, for --model=FOLDER."
    )
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to create; must not exist")
    paths = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        parameters = convert_gguf(paths.file, paths.folder)
    except (RecsysError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, RecsysError):
            return error.exit_code
        return RetryError.exit_code if "No space left" in str(error) else UsageError.exit_code
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"folder": str(paths.folder), "parameters": parameters, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
