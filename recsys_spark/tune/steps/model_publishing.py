"""The folder of a trained model: weights, layers, what it was trained with and how good it is. Never over another."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recsys_spark.encode.kernels.dense_head import write_head
from recsys_spark.encode.kernels.folder_settings import pooling_settings
from recsys_spark.encode.kernels.model_folder import ModelSpec, read_model
from recsys_spark.errors import InputError, UsageError
from recsys_spark.errors.failpoints import failpoint


@dataclass(frozen=True)
class OutputPaths:
    """Folders of a training: the new model, the same if it is rejected, and where the work is kept meanwhile."""

    published: Path
    rejected: Path
    work: Path


def output_paths(output: str) -> OutputPaths:
    """Where a training writes; folders above it are made when it does."""
    root = Path(output).expanduser().absolute()
    return OutputPaths(root, root.with_name(f"{root.name}.rejected"), root.with_name(f"{root.name}.training"))


def finished(where: OutputPaths, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The card of a training with these settings that was killed after its model got its name; what it left is removed.
    None where nothing stands there.

    Raises:
        UsageError: something stands there that is not of this training: a model is never written over another.
        InputError: the folder cannot be made.
    """
    for taken in (where.published, where.rejected):
        if not taken.exists():
            continue
        card, killed = _card(taken), where.work.is_dir() and not (where.work / "model").exists()
        if killed and card.get("settings") == json.loads(json.dumps(settings, default=str)):
            shutil.rmtree(where.work)
            return card
        raise UsageError(f"output {taken} exists already; a model is never written over: give another --output")
    check_parent(where.published)
    return None


def reported(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the job says of a model, from its card."""
    return {**card["figures"], "model": card["fingerprint"], "base": card["base"]}


def check_parent(folder: Path) -> None:
    """Refuse a folder that cannot be made.

    Raises:
        InputError: what is above it is no folder, or may not be written.
    """
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"output {folder} cannot be made: {above} is no folder that may be written; another --output")


def publish_model(
    where: OutputPaths,
    write: Callable[[Path], None],
    card: Mapping[str, Any],
    records: Sequence[dict[str, float]],
    better: bool,
) -> dict[str, Any]:
    """Write the folder and give it its name in one step; what the training left is removed. Returns the card.

    ``write`` puts weights, tokenizer and layers there.
    """
    draft, target = where.work / "model", where.published if better else where.rejected
    shutil.rmtree(draft, ignore_errors=True)
    where.work.mkdir(parents=True, exist_ok=True)
    write(draft)
    spec = read_model(str(draft))
    about = {"status": "published" if better else "rejected", "fingerprint": spec.fingerprint, **card}
    (draft / "training.json").write_text(json.dumps(about, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
    with (draft / "metrics.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
    _plot(records, draft / "loss.png")
    failpoint("publish.before", "model")
    draft.rename(target)
    failpoint("publish.after", "model")
    shutil.rmtree(where.work)
    return _card(target)


def describe(folder: Path, spec: ModelSpec) -> None:
    """Write down how ``spec`` pools, how long texts are and its prompts, so that the folder says it by itself; modules
    without layers after pooling."""
    write_head(folder, [])
    (folder / "1_Pooling").mkdir(exist_ok=True)
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pooling = pooling_settings(spec.pooling, spec.include_prompt)
    pooling |= {"word_embedding_dimension": width.get("hidden_size") or width.get("n_embd")}
    _write(folder / "1_Pooling" / "config.json", pooling)
    settings = {"max_seq_length": spec.max_length, "do_lower_case": spec.lower_case}
    _write(folder / "sentence_bert_config.json", settings)
    # Also where both are empty: those of the base, which were overridden, came along with its files.
    _write(
        folder / "config_sentence_transformers.json", {"prompts": {"passage": spec.prompt, "query": spec.user_prompt}}
    )


def _card(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _plot(records: Sequence[dict[str, float]], path: Path) -> None:
    """The loss by step, and what validation said, where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [record for record in records if "loss" in record]
    axes.plot([record["step"] for record in steps], [record["loss"] for record in steps], color="#8fa8c8", label="loss")
    axes.set(xlabel="step", ylabel="training loss")
    other = axes.twinx()
    checks = [record for record in records if "loss" not in record]
    for name in sorted({key for record in checks for key in record if key.startswith("valid_")} - {"valid_total"}):
        values = [(record["step"], record[name]) for record in checks if name in record]
        other.plot(*zip(*values, strict=True), marker="o", label=name)
    other.set_ylabel("validation")
    figure.legend(loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)
