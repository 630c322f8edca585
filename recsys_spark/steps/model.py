"""The encoder that the options name: found, understood and converted once on the driver, then sent to the executors."""

import atexit
import os
import re
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from recsys_spark.embed import shipped_name
from recsys_spark.errors import InputError, UsageError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import ModelSpec, digest, read_model
from recsys_spark.options import EncoderOptions

_HUB = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)@(?P<revision>[0-9a-f]{40})")
_SHIPPED = ("*.safetensors", "*.onnx", "openvino.*", "*.json", "*.txt", "*.model", "*_Dense/*")


def resolve_model(options: EncoderOptions, run: Run | None = None) -> ModelSpec:
    """The encoder that the options name, read once on the driver. ``run`` is asked for its session only where the model
    is an archive, which Spark unpacks when it starts.

    Raises:
        UsageError, InputError: the package, folder, archive or revision is not there or not usable.
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
    possible = {"torch": ("fp32", "bf16"), "onnx": ("fp32", "int8"), "openvino": ("fp32",)}[engine]
    if options.precision not in possible:
        raise UsageError(f"engine '{engine}' has no precision '{options.precision}'; it has {', '.join(possible)}")
    return spec if engine == "torch" else _converted(spec, engine)


def ship_model(spark: SparkSession, model: ModelSpec) -> None:
    """Send the model folder to all executors, once for a session; in local mode they see it anyway."""
    context = spark.sparkContext
    master = str(context.master)
    if master == "local" or master.startswith("local[") or any(shipped_name(model) in a for a in context.listArchives):
        return
    archive = Path(gettempdir()) / f"{shipped_name(model)}-{os.getpid()}.zip"
    atexit.register(archive.unlink, missing_ok=True)  # not sooner: a new executor may fetch it late
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as whole:
        for path in sorted(p for ending in _SHIPPED for p in Path(model.folder).glob(ending)):
            whole.write(path, path.relative_to(model.folder))
    context.addArchive(f"{archive}#{shipped_name(model)}")


def _folder(model: str, run: Run | None) -> Path:
    """``package:NAME``, ``hub:OWNER/NAME@REVISION``, ``archive:NAME`` or a path."""
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
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"model package '{name}' is not installed; give --model=FOLDER, or install it")
    root = Path(found.submodule_search_locations[0])
    configs = [path.parent for path in sorted(root.glob("**/config.json")) if list(path.parent.glob("*.safetensors"))]
    return configs[0] if configs else root


def _in_hub_cache(name: str) -> Path:
    asked = _HUB.fullmatch(name)
    if asked is None:
        raise UsageError(f"model 'hub:{name}' is not hub:OWNER/NAME@REVISION with a commit of 40 hex digits")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        wanted = ["*.safetensors", "*.json", "*.txt", "*.model"]
        return Path(snapshot_download(asked["repository"], revision=asked["revision"], allow_patterns=wanted))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model 'hub:{name}' is not in this machine's cache and was not fetched; run once with HF_HUB_OFFLINE=0"
        ) from error


def _in_archive(name: str, run: Run | None) -> Path:
    found = Path.cwd() / name  # where YARN unpacks it
    if not found.is_dir() and run is not None and run.spark:
        found = Path(SparkFiles.get(name))
    if not found.is_dir():
        raise InputError(f"model 'archive:{name}': no archive of this name; add -- --archives FILE.zip#{name}")
    return found


def _check_root(folder: Path, models_root: str | None) -> None:
    if models_root is None:
        return
    root = Path(models_root).expanduser().resolve()
    outside = [path for path in (folder, *folder.glob("*")) if not path.resolve().is_relative_to(root)]
    if outside:
        raise UsageError(f"model {outside[0]} lies outside of models_root {root}")


def _converted(spec: ModelSpec, engine: str) -> ModelSpec:
    name = f"recsys-{engine}-{spec.precision}-{spec.weights[:16]}"  # weights may be replaced in place
    places = [Path(spec.folder) / name, _cache() / name]
    target = next((place for place in places if place.is_dir()), None)
    if target is None:
        from recsys_spark.kernels.conversion import convert

        target = places[0] if os.access(spec.folder, os.W_OK) else places[1]
        convert(spec.folder, engine, spec.precision, target)
    return replace(spec, folder=str(target), files=digest(target), engine=engine)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "recsys-spark"
