"""The encoder that the options name: found, understood and converted once on the driver, then sent to the executors."""

import atexit
import json
import os
import re
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
"""Of ``check_usable``, the version: one more wherever it refuses what it did not before."""


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
    _check_once(spec, keep=not options.dry_run)
    return spec if engine == "torch" else _converted(spec, engine, dry_run=options.dry_run)


def ship_model(spark: SparkSession, model: ModelSpec) -> None:
    """Send the model folder to all executors, once for a session; in local mode they see it anyway."""
    context = spark.sparkContext
    master = str(context.master)
    if master == "local" or master.startswith("local[") or any(shipped_name(model) in a for a in context.listArchives):
        return
    number, name = mkstemp(prefix=f"{shipped_name(model)}-", suffix=".zip")  # new, and for this user alone
    archive = Path(name)
    atexit.register(archive.unlink, missing_ok=True)  # not sooner: a new executor may fetch it late
    with open(number, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as whole:
        for path in module_files(Path(model.folder)):
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
    folders = [path.parent for path in sorted(root.glob("**/modules.json"))] + configs
    return folders[0] if folders else root


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
    inside = (folder, *folder.glob("*"))  # the folder first: nothing is read of one that lies elsewhere
    outside = [path for path in inside if not path.resolve().is_relative_to(root)]
    outside = outside or [path for path in module_files(folder) if not path.resolve().is_relative_to(root)]
    if outside:
        raise UsageError(f"model {outside[0]} lies outside of models_root {root}")


def _check_once(spec: ModelSpec, *, keep: bool) -> None:
    """Try the model, unless the same files were tried with the same packages before, as a file in the cache says."""
    facts = [spec.weights, spec.pooling, spec.max_length, spec.prompt, spec.user_prompt, spec.include_prompt]
    facts += [spec.lower_case, *map(_version, _CHECKING), _CHECKS]
    known = _cache() / "checked" / sha256(json.dumps(facts).encode()).hexdigest()[:32]
    if known.is_file():
        return
    from recsys_spark.encode.kernels.model_check import check_usable

    check_usable(spec)
    if keep:
        with suppress(OSError):
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _converted(spec: ModelSpec, engine: str, *, dry_run: bool) -> ModelSpec:
    """The model for another engine; a dry run converts nothing and keeps to torch where that was not done yet."""
    name = f"recsys-{engine}-{spec.precision}-{spec.weights[:16]}"  # weights may be replaced in place
    places = [Path(spec.folder) / name, _cache() / name]
    target = next((place for place in places if place.is_dir()), None)
    if target is None and dry_run:
        return spec
    if target is None:
        from recsys_spark.encode.kernels.engine_conversion import convert

        target = places[0] if os.access(spec.folder, os.W_OK) else places[1]
        convert(spec.folder, engine, spec.precision, target)
    return replace(spec, folder=str(target), files=digest(target), engine=engine)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "recsys-spark"
