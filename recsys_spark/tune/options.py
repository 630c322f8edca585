"""Configuration keys of training."""

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.events.options import EventOptions
from recsys_spark.sequence.kernels.shape import Shape

if TYPE_CHECKING:  # imports torch, which --help should not wait for
    from recsys_spark.training.kernels.training_loop import Plan

RATES = {"full": 2e-5, "lora": 1e-3, "adalora": 2e-3, "ia3": 3e-3, "head": 1e-3, "projector": 1e-3, "sequence": 1e-3}
"""Default learning rates, the best of the benchmarks (tests/benchmarks/LOG.md)."""

LANGUAGE_RATES = RATES | {"full": 2e-4}
"""Those of masked_lm and causal_lm. That of all weights was not searched."""

_SHAPE = Shape()


class TuningOptions(EncoderOptions, EventOptions):
    """Data, model and schedule of a training."""

    lake: str = Field("lake/tuning", description="lake that holds the tables of the data set; new or existing")
    run_date: date = Field(date(2100, 1, 1), description="train on events and reviews before this date, YYYY-MM-DD")
    dataset: str | None = Field(
        None,
        description="name of a file in conf/datasets, or path of a dataset file (.toml); default: the lake's tables",
    )
    data: str | None = Field(None, description="folder or URI with the raw sources of the dataset")
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="maximum share of bad rows in a table; above it nothing is published"
    )
    max_text_chars: int = Field(
        20_000, ge=1, description="maximum length of a text in characters; longer texts are truncated"
    )
    output: str = Field(
        description="folder of the new model, which must not exist; a rejected model gets the same name with .rejected"
    )
    objective: Literal["regression", "contrastive", "sequence", "masked_lm", "causal_lm"] = Field(
        "contrastive",
        description="regression: predict scores from texts; contrastive: predict the next item from histories; "
        "sequence: the same with a transformer over the last events, on vectors of the frozen encoder; masked_lm, "
        "causal_lm: predict tokens of the texts of items and users (pre-training on one's own texts)",
    )
    tuning: Literal["full", "lora", "adalora", "ia3", "adapter", "head", "projector"] | None = Field(
        None,
        description="trainable part: all weights (full), merged adapters (adapter: ia3, the smallest), or a head or "
        "projector on the frozen encoder; default: head for regression, projector for contrastive, full for masked_lm "
        "and causal_lm",
    )
    min_pairs: int = Field(
        100,
        ge=1,
        description="minimum number of texts with a score, of events, or (masked_lm, causal_lm) of texts, to train on",
    )
    training_max_events: int = Field(
        20_000_000,
        ge=1,
        description="contrastive, sequence: above this number of events, train on a hash sample of the users",
    )
    training_max_texts: int = Field(
        1_000_000, ge=1, description="masked_lm, causal_lm: above this number of texts, train on a hash sample of them"
    )
    split: Literal["time", "user"] = Field(
        "time",
        description="regression: validate and test on the newest texts (time), or on the texts of other users (user)",
    )
    valid_share: float = Field(
        0.1, gt=0, lt=1, description="regression, masked_lm, causal_lm: share of the texts for validation"
    )
    test_share: float = Field(
        0.1, gt=0, lt=1, description="regression, masked_lm, causal_lm: share of the texts for the test"
    )
    biases: bool = Field(
        True, description="regression: predict from texts the residual of a score after user and item biases"
    )
    loss: Literal["mse", "huber"] = Field("mse", description="regression: loss; huber is more robust to outliers")
    epochs: int | None = Field(
        None,
        ge=1,
        description="maximum passes over the data; default: 8 for the projector, 20 for sequence, 4 for others",
    )
    patience: int = Field(
        2,
        ge=0,
        description="early stopping: stop after more than N epochs in a row without a better result on validation",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="peak learning rate of AdamW; default: by the key tuning, such as 1e-3 for projector and 2e-5 for "
        "full (2e-4 for masked_lm and causal_lm)",
    )
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW, on matrices only")
    warm_up: float = Field(0.1, ge=0, le=1, description="warm-up steps as a share of all steps")
    clip: float = Field(1.0, gt=0, description="gradient clipping: maximum global norm")
    batch: int | None = Field(
        None,
        ge=2,
        description="examples per batch; default: 32 for regression, 128 for contrastive and sequence, 1024 for the "
        "projector, 16 packed rows for masked_lm and causal_lm",
    )
    accumulate: int = Field(1, ge=1, description="gradient accumulation: batches per optimizer step")
    rank: int = Field(8, ge=1, description="lora: rank; adalora: mean final rank of a layer")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout; default: 0.05 for adapters, 0.3 for the projector and sequence"
    )
    temperature: float = Field(0.05, gt=0, description="contrastive: softmax temperature")
    decay: float = Field(
        0.75,
        gt=0,
        le=1,
        description="contrastive: factor on the weight of a context event, once for each event between it and the "
        "target",
    )
    both_sides: bool = Field(True, description="contrastive: use the events after a target as context too")
    shrink: float | None = Field(
        0.1,
        ge=0,
        description="projector, sequence: shrinkage of its built-in whitening, like --whitening of item vectors",
    )
    hidden: int = Field(1024, ge=0, description="projector: width of the inner layer; 0: no inner layer")
    memory: int = Field(
        10_000,
        ge=0,
        description="projector: number of items, those with the most events, that learn an offset of their own",
    )
    width: int = Field(_SHAPE.width, ge=1, description="sequence: numbers in the vector of an item and in a state")
    layers: int = Field(_SHAPE.layers, ge=1, description="sequence: layers of the transformer")
    heads: int = Field(_SHAPE.heads, ge=1, description="sequence: attention heads, a divisor of width")
    length: int = Field(_SHAPE.length, ge=1, description="sequence: number of newest events of a user that count")
    mask_share: float = Field(0.15, gt=0, le=1, description="masked_lm: share of the words of a text to predict")
    row_tokens: int = Field(
        256, ge=8, description="masked_lm, causal_lm: tokens of a packed row of texts; longer texts are truncated"
    )
    negatives: int = Field(128, ge=0, description="contrastive adapters: uniformly sampled negatives per batch")
    hard_negatives: int = Field(
        0,
        ge=0,
        description="contrastive adapters: hard negatives per anchor, mined at the start of each epoch",
    )
    margin: float = Field(
        0.05, ge=0, description="contrastive adapters: minimum score difference of a positive to its hard negatives"
    )
    piece: int = Field(
        64, ge=0, description="contrastive adapters: texts per backward pass (gradient caching); 0: the whole batch"
    )
    refit: bool = Field(
        True,
        description="contrastive, sequence: before the test, train again with the validation events, up to the best "
        "epoch",
    )
    seed: int = Field(0, ge=0, description="random seed of weights, batch order, dropout and bootstrap intervals")
    checkpoint_steps: int = Field(
        100, ge=1, description="steps between checkpoints, from which a killed training resumes"
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1; auto: a GPU if there is one")
    processes: int = Field(
        1,
        ge=1,
        description="data-parallel processes, started by TorchDistributor, one per GPU if device is a GPU; contrastive "
        "adapters need 1",
    )
    on_executors: bool = Field(
        False, description="run the processes on the executors, with --output on shared storage; default: on the driver"
    )
    tracker: Literal["none", "tensorboard", "mlflow", "wandb"] = Field(
        "none", description="experiment tracker, besides metrics.jsonl; each needs the extra of setup.py with its name"
    )

    @property
    def language(self) -> bool:
        """Whether the objective is to predict tokens."""
        return self.objective in ("masked_lm", "causal_lm")

    @property
    def method(self) -> str:
        """``tuning``, by default the best one for the objective. ``adapter`` is IA³: peft has no bottleneck adapters,
        and of its adapters besides LoRA and AdaLoRA, IA³ merges at no cost. ``sequence`` has one method."""
        if self.objective == "sequence":
            return "sequence"
        if self.language:
            return self.tuning or "full"
        default = "head" if self.objective == "regression" else "projector"
        return "ia3" if self.tuning == "adapter" else self.tuning or default

    @property
    def passes(self) -> int:
        """``epochs``, by default as many as the method needs."""
        return self.epochs or {"projector": 8, "sequence": 20}.get(self.method, 4)

    @property
    def shape(self) -> Shape:
        """Sizes of a sequence encoder."""
        dropout = _SHAPE.dropout if self.dropout is None else self.dropout
        return Shape(self.width, self.layers, self.heads, self.length, dropout)

    @property
    def plan(self) -> "Plan":
        """Length and learning rate of the training."""
        from recsys_spark.training.kernels.training_loop import Plan

        return Plan(
            epochs=self.passes,
            learning_rate=self.learning_rate or (LANGUAGE_RATES if self.language else RATES)[self.method],
            weight_decay=self.weight_decay,
            warm_up=self.warm_up,
            clip=self.clip,
            accumulate=self.accumulate,
            patience=self.patience,
            checkpoint_steps=self.checkpoint_steps,
            seed=self.seed,
        )

    def settings(self) -> dict[str, Any]:
        """All keys that change the result of a training; the data is identified separately."""
        neutral = {"lake", "preset", "output", "tracker", "checkpoint_steps", "dry_run", "data", "models_root"}
        neutral |= {"processes", "on_executors"}  # a training may resume with more or fewer
        if self.objective != "sequence":
            neutral |= {"width", "layers", "heads", "length"}
        if not self.language:
            neutral |= {"training_max_texts", "mask_share", "row_tokens"}
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in neutral}
