"""Configuration keys of the service."""

from typing import Literal

from pydantic import Field, model_validator

from recsys_spark.runtime.config import Configuration


class ServeOptions(Configuration):
    """Service."""

    source: Literal["folder", "redis"] = Field(
        "folder", description="where lists are read: folder, or redis (address in the environment, RECSYS_REDIS_URL)"
    )
    folder: str = Field("", description="folder: what export_recommendations --to=folder --folder_format=arrow wrote")
    redis_prefix: str = Field("", pattern=r"^[\w.:-]*$", description="redis: that of export_recommendations")
    listen_host: str = Field("127.0.0.1", description="address to listen at; 0.0.0.0: all of this machine")
    listen_port: int = Field(8080, ge=0, le=65535, description="port to listen at; 0: any that is free")
    default_k: int = Field(10, ge=1, description="length of a list if a request names no k")
    max_k: int = Field(100, ge=1, description="greatest k of a request")
    max_id_chars: int = Field(256, ge=1, description="longest id of a request, in characters")
    reload_seconds: float = Field(5.0, gt=0, description="seconds between two looks for a new version")

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> "ServeOptions":
        """Refuse keys that contradict each other.

        Raises:
            ValueError: it names the keys with the remedy.
        """
        if self.source == "folder" and not self.folder:
            raise ValueError("source=folder needs a folder: --folder=PATH")
        if self.source == "redis" and self.folder:
            raise ValueError("folder has no effect with source=redis: leave it out")
        if self.source == "folder" and self.redis_prefix:
            raise ValueError("redis_prefix needs source=redis")
        if self.default_k > self.max_k:
            raise ValueError(f"default_k is {self.default_k}, greater than max_k ({self.max_k})")
        return self
