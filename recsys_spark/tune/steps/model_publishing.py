"""Publish a model folder: weights, layers, training settings and metrics. An existing model is never overwritten."""

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
    """Folders of a training: the published model, the rejected model, and the work in progress."""

    published: Path
    rejected: Path
    work: Path


def output_paths(output: str) -> OutputPaths:
    """The folders that a training writes; parent folders are created when it writes."""
    root = Path(output).expanduser().absolute()
    return OutputPaths(root, root.with_name(f"{root.name}.rejected"), root.with_name(f"{root.name}.training"))


def unreported_model(paths: OutputPaths, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The card of a model whose training was killed between renaming the folder and cleaning up; None if no model
    exists. The rest of its work folder is removed.

    Raises:
        UsageError: the output exists and is not of an interrupted training with these settings.
        InputError: the folder cannot be created.
    """
    for existing in (paths.published, paths.rejected):
        if not existing.exists():
            continue
        card, interrupted = _read_card(existing), paths.work.is_dir() and not (paths.work / "model").exists()
        if interrupted and card.get("settings") == json.loads(json.dumps(settings, default=str)):
            shutil.rmtree(paths.work)
            return card
        raise UsageError(f"output {existing} exists; a model is never overwritten: give another --output")
    check_parent(paths.published)
    return None


def model_report(card: Mapping[str, Any]) -> dict[str, Any]:
    """The job's report of a model, from its card."""
    return {**card["figures"], "model": card["fingerprint"], "base": card["base"]}


def relative_lift(tuned: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a tuned model by part and metric, and their ``lift`` over those of its base.

    ``tuned``, ``frozen``: metrics of the parts ``validation`` and ``test``.
    """
    figures: dict[str, Any] = {"lift": {}}
    for part in ("validation", "test"):
        for metric, value in tuned[part].items():
            figures[f"{part}_{metric}"], base = value, frozen[part][metric]
            figures["lift"][f"{part}_{metric}"] = round(value / base - 1, 4) if base else None
    return figures


def check_parent(folder: Path) -> None:
    """Check that the folder can be created.

    Raises:
        InputError: its nearest existing parent is not a writable folder.
    """
    parent = next(parent for parent in folder.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"output {folder} cannot be created: {parent} is not a writable folder; give another --output")


def publish_model(
    paths: OutputPaths,
    write: Callable[[Path], None],
    card: Mapping[str, Any],
    records: Sequence[dict[str, float]],
    better: bool,
    fingerprint: Callable[[Path], str] = lambda folder: read_model(str(folder)).fingerprint,
) -> dict[str, Any]:
    """Write the model folder, rename it to its final name atomically and remove the work folder. Returns the card.

    Args:
        write: writes weights, tokenizer and layers to a folder.
        card: base, metrics, data versions and settings for ``training.json``.
        records: of the training, for ``metrics.jsonl``.
        better: publish the model; otherwise it is named as rejected.
        fingerprint: of the written folder; by default that of an encoder.
    """
    draft, target = paths.work / "model", paths.published if better else paths.rejected
    shutil.rmtree(draft, ignore_errors=True)
    paths.work.mkdir(parents=True, exist_ok=True)
    write(draft)
    card = {"status": "published" if better else "rejected", "fingerprint": fingerprint(draft), **card}
    (draft / "training.json").write_text(json.dumps(card, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
    with (draft / "metrics.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
    _plot(records, draft / "loss.png")
    failpoint("publish.before", "model")
    draft.rename(target)
    failpoint("publish.after", "model")
    shutil.rmtree(paths.work)
    return _read_card(target)


def describe(folder: Path, spec: ModelSpec) -> None:
    """Write pooling, maximum length and prompts of ``spec`` to the settings files of a model folder, and its modules
    without layers after pooling."""
    write_head(folder, [])
    (folder / "1_Pooling").mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pooling = pooling_settings(spec.pooling, spec.include_prompt)
    pooling |= {"word_embedding_dimension": config.get("hidden_size") or config.get("n_embd")}
    _write(folder / "1_Pooling" / "config.json", pooling)
    settings = {"max_seq_length": spec.max_length, "do_lower_case": spec.lower_case}
    _write(folder / "sentence_bert_config.json", settings)
    # Empty prompts are written too: they override those in the files copied from the base.
    _write(
        folder / "config_sentence_transformers.json", {"prompts": {"passage": spec.prompt, "query": spec.user_prompt}}
    )


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _plot(records: Sequence[dict[str, float]], path: Path) -> None:
    """Plot loss and validation metrics by step, if matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [record for record in records if "loss" in record]
    axes.plot([record["step"] for record in steps], [record["loss"] for record in steps], color="#8fa8c8", label="loss")
    axes.set(xlabel="step", ylabel="training loss")
    valid_axes = axes.twinx()
    validations = [record for record in records if "loss" not in record]
    for name in sorted({key for record in validations for key in record if key.startswith("valid_")} - {"valid_total"}):
        values = [(record["step"], record[name]) for record in validations if name in record]
        valid_axes.plot(*zip(*values, strict=True), marker="o", label=name)
    valid_axes.set_ylabel("validation")
    figure.legend(loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)
