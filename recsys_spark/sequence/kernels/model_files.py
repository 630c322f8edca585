"""The folder of a trained sequence encoder: safetensors, a table of item ids and JSON, nothing that can run code.
Without torch, on the driver."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError
from recsys_spark.items.kernels.whitening import Whitening
from recsys_spark.sequence.kernels.shape import Shape

FORMAT = 1
"""Version of the folder. A folder of another version is refused."""

_TENSORS, _ITEMS, _SETTINGS = "sequence.safetensors", "items.parquet", "sequence.json"

_TRANSFORMER = "transformer."


@dataclass(frozen=True, eq=False)
class SequenceFiles:
    """A trained sequence encoder with all that it needs to score new events and new items.

    Args:
        shape: its sizes.
        encoder: fingerprint of the encoder whose text embeddings it reads.
        shrink: of the whitening, for the record.
        whitening: of text embeddings, (d,) and (d, d).
        ids: (n,) the items that it learned, in the order of ``offsets``.
        text_map: (d, width), from whitened text vectors to item vectors.
        offsets: (n, width), added to the vectors of these items.
        transformer: its weights by name.
        fingerprint: 16 hex digits over the files, which identify its scores; empty before they are written.
    """

    shape: Shape
    encoder: str
    shrink: float
    whitening: Whitening
    ids: pa.Array
    text_map: Matrix
    offsets: Matrix
    transformer: Mapping[str, NDArray[np.float32]]
    fingerprint: str = ""

    def item_vectors(self, ids: pa.Array, embeddings: Matrix) -> Matrix:
        """(m, width) whitened text · map + offset; zeros for an item without a text that was not learned either.

        Args:
            ids: (m,) of the items.
            embeddings: (m, d) of their texts; zeros for an item without one.
        """
        # In float64 the batch hardly ever moves a bit of the result.
        vectors = self.whitening.apply(embeddings).astype(np.float64) @ self.text_map.astype(np.float64)
        rows = pc.index_in(ids, value_set=self.ids)
        learned = rows.is_valid().to_numpy(zero_copy_only=False)
        vectors[learned] += self.offsets[rows.drop_null().to_numpy()]
        return vectors.astype(np.float32)


def write_sequence_files(model: SequenceFiles, folder: Path) -> None:
    """Write a model to a new folder."""
    folder.mkdir(parents=True)
    tensors: dict[str, NDArray[Any]] = {f"{_TRANSFORMER}{name}": values for name, values in model.transformer.items()}
    tensors |= {"text_map": model.text_map, "offsets": model.offsets}
    tensors |= {"whitening.mean": model.whitening.mean, "whitening.matrix": model.whitening.matrix}
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / _TENSORS)
    pq.write_table(pa.table({"item_id": model.ids.cast(pa.string())}), folder / _ITEMS)
    settings = {"format": FORMAT, "encoder": model.encoder, "shrink": model.shrink, "shape": asdict(model.shape)}
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2), encoding="utf-8")


def read_sequence_files(folder: str | Path) -> SequenceFiles:
    """Read the folder of a model.

    Raises:
        InputError: a file is missing or broken, or is of another version of the folder.
    """
    root = Path(folder).expanduser()
    missing = [name for name in (_SETTINGS, _TENSORS, _ITEMS) if not (root / name).is_file()]
    if missing:
        raise InputError(
            f"sequence_model {root} has no file {', '.join(missing)}: give the folder of a model that "
            "fine_tune_encoder --objective=sequence has written"
        )
    try:
        settings = json.loads((root / _SETTINGS).read_text(encoding="utf-8"))
        if settings["format"] != FORMAT:
            raise InputError(
                f"sequence_model {root} has format {settings['format']}, this release reads {FORMAT}: train it again"
            )
        model = _model(settings, load_file(root / _TENSORS), pq.read_table(root / _ITEMS)["item_id"], _digest(root))
    except (ValueError, KeyError, TypeError, OSError, SafetensorError, pa.ArrowException) as error:
        raise InputError(f"sequence_model {root} is broken ({error}): train it again, or copy it again") from error
    if fault := _fault(model):
        raise InputError(f"sequence_model {root} is broken ({fault}): train it again, or copy it again")
    return model


def _model(
    settings: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], ids: pa.ChunkedArray, fingerprint: str
) -> SequenceFiles:
    weights = {n.removeprefix(_TRANSFORMER): values for n, values in tensors.items() if n.startswith(_TRANSFORMER)}
    return SequenceFiles(
        shape=Shape(**settings["shape"]),
        encoder=settings["encoder"],
        shrink=settings["shrink"],
        whitening=Whitening(tensors["whitening.mean"], tensors["whitening.matrix"]),
        ids=pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], pa.string()),
        text_map=tensors["text_map"],
        offsets=tensors["offsets"],
        transformer=weights,
        fingerprint=fingerprint,
    )


def _fault(model: SequenceFiles) -> str | None:
    """A disagreement of the files about the sizes; None if there is none."""
    width, dimension = model.shape.width, len(model.text_map)
    expected: dict[str, tuple[int, ...]] = {"text_map": (dimension, width), "offsets": (len(model.ids), width)}
    expected |= {"whitening.matrix": (dimension, dimension), "whitening.mean": (dimension,)}
    actual = {"text_map": model.text_map.shape, "offsets": model.offsets.shape}
    actual |= {"whitening.matrix": model.whitening.matrix.shape, "whitening.mean": model.whitening.mean.shape}
    faults = [f"{name} is {actual[name]}, not {size}" for name, size in expected.items() if actual[name] != size]
    return faults[0] if faults else None


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for name in (_SETTINGS, _TENSORS, _ITEMS):
        with (root / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
