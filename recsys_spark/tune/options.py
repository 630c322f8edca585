"""Configuration keys of training."""

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.events.options import EventOptions

if TYPE_CHECKING:  # it imports torch, which --help must not wait for
    from recsys_spark.tune.kernels.training_loop import Plan

RATES = {"full": 2e-5, "lora": 1e-3, "adalora": 2e-3, "ia3": 3e-3, "head": 1e-3, "projector": 1e-3}
"""Learning rates that were found best (benchmarks/LOG.md)."""


class TuningOptions(EncoderOptions, EventOptions):
    """What is trained, on what, and for how long."""

    lake: str = Field("lake/tuning", description="lake for the data set, or one that is there already")
    run_date: date = Field(date(2100, 1, 1), description="events and reviews before it are known, YYYY-MM-DD")
    dataset: str | None = Field(
        None,
        description="name of a file in conf/datasets, or a path to one of your own (.toml); default: the lake's tables",
    )
    data: str | None = Field(None, description="folder or URI that holds the raw sources of the dataset")
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="share of bad rows in a table above which nothing is published"
    )
    max_text_chars: int = Field(20_000, ge=1, description="longer texts are cut, in characters")
    output: str = Field(description="folder of the new model; must not exist. Rejected: the same name with .rejected")
    objective: Literal["regression", "contrastive"] = Field(
        "contrastive", description="regression: texts to scores; contrastive: histories to the next item"
    )
    tuning: Literal["full", "lora", "adalora", "ia3", "adapter", "head", "projector"] | None = Field(
        None,
        description="what moves: all weights, adapters that are merged (adapter: ia3, the smallest), or a head on the "
        "frozen encoder; default: head for regression, projector for contrastive",
    )
    min_pairs: int = Field(100, ge=1, description="texts with a score, or events, below which nothing is trained")
    training_max_events: int = Field(
        20_000_000, ge=1, description="contrastive: with more events it learns from a sample of the users, by a hash"
    )
    split: Literal["time", "user"] = Field("time", description="regression: newest texts, or whole users, are the test")
    valid_share: float = Field(0.1, gt=0, lt=1, description="regression: share of the texts for validation")
    test_share: float = Field(0.1, gt=0, lt=1, description="regression: share of the texts for the test")
    biases: bool = Field(
        True, description="regression: learn from texts what the biases of user and item leave of a score"
    )
    loss: Literal["mse", "huber"] = Field("mse", description="regression: huber minds outliers less")
    epochs: int | None = Field(
        None, ge=1, description="passes over the data, at most; default: 8 for the projector, 4 for others"
    )
    patience: int = Field(2, ge=0, description="epochs in a row that may be no better on validation before it stops")
    learning_rate: float | None = Field(None, gt=0, description="of AdamW; default: by tuning")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW, on matrices")
    warm_up: float = Field(0.1, ge=0, le=1, description="share of all steps in which the learning rate rises")
    clip: float = Field(1.0, gt=0, description="longest gradient; longer ones are cut")
    batch: int | None = Field(None, ge=2, description="examples in a batch; default: 32 texts, 1024 for the projector")
    accumulate: int = Field(1, ge=1, description="batches whose gradients make one step")
    rank: int = Field(8, ge=1, description="lora: rank; adalora: mean rank of a layer at the end")
    dropout: float | None = Field(None, ge=0, lt=1, description="of adapters (default 0.05) or the projector (0.3)")
    temperature: float = Field(0.05, gt=0, description="contrastive: of the softmax")
    decay: float = Field(0.75, gt=0, le=1, description="contrastive: what an event counts for each newer one")
    both_sides: bool = Field(True, description="contrastive: learn an item from the events after it too")
    shrink: float | None = Field(
        0.1, ge=0, description="projector: of the whitening that becomes part of it, as --whitening of item vectors"
    )
    hidden: int = Field(1024, ge=0, description="projector: width of its inner layer; 0: a matrix alone")
    memory: int = Field(
        10_000, ge=0, description="projector: items, those with the most events, that learn an offset of their own"
    )
    negatives: int = Field(128, ge=0, description="contrastive adapters: drawn items each anchor is told from as well")
    hard_negatives: int = Field(
        0,
        ge=0,
        description="contrastive adapters: of each anchor's best items as the epoch starts, so many are negatives of "
        "the batch too",
    )
    margin: float = Field(
        0.05, ge=0, description="contrastive adapters: a hard negative scores at least so much below the positive"
    )
    piece: int = Field(
        64, ge=0, description="contrastive adapters: texts in one backward pass, by gradient caching; 0: all of a batch"
    )
    refit: bool = Field(
        True, description="contrastive: train again with the validation events, as long as was best, before the test"
    )
    seed: int = Field(0, ge=0, description="of weights, order, dropout and intervals")
    checkpoint_steps: int = Field(100, ge=1, description="steps after which a killed training goes on from there")
    device: str = Field("auto", description="cpu, cuda, cuda:1; auto: a GPU where there is one")
    processes: int = Field(
        1,
        ge=1,
        description="more: TorchDistributor starts so many, each on a GPU where device is one; not for adapters "
        "on histories",
    )
    on_executors: bool = Field(
        False, description="processes on the executors, --output on storage that all see; else on the driver's machine"
    )
    tracker: Literal["none", "tensorboard", "mlflow", "wandb"] = Field(
        "none", description="where figures go while it runs, beside metrics.jsonl; each is an extra of setup.py"
    )

    @property
    def method(self) -> str:
        """``tuning``, or what the objective is best with. peft has no bottleneck adapters: of its adapters that are
        neither LoRA nor AdaLoRA, IA³ is the one that merges at no cost."""
        return (
            "ia3"
            if self.tuning == "adapter"
            else self.tuning or ("head" if self.objective == "regression" else "projector")
        )

    @property
    def passes(self) -> int:
        """``epochs``, or what was found enough."""
        return self.epochs or (8 if self.method == "projector" else 4)

    @property
    def plan(self) -> "Plan":
        """How long and how fast."""
        from recsys_spark.tune.kernels.training_loop import Plan

        return Plan(
            epochs=self.passes,
            learning_rate=self.learning_rate or RATES[self.method],
            weight_decay=self.weight_decay,
            warm_up=self.warm_up,
            clip=self.clip,
            accumulate=self.accumulate,
            patience=self.patience,
            checkpoint_steps=self.checkpoint_steps,
            seed=self.seed,
        )

    def facts(self) -> dict[str, Any]:
        """Everything that a training depends on beside the data."""
        kept = {"lake", "output", "tracker", "checkpoint_steps", "dry_run", "data", "models_root"}
        kept |= {"processes", "on_executors"}  # a training goes on with more or fewer
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in kept}
