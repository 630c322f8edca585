"""What a target of an export does."""

from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import DataFrame

from recsys_spark.export.steps.collections import Collection, Exported, VectorShape
from recsys_spark.runtime.lifecycle import Run


@dataclass(frozen=True)
class Export:
    """An export that is to be made."""

    run: Run
    collection: Collection
    version: Exported
    documents: DataFrame
    """``id, items, value`` of the version; if ``old`` is given, only of ids whose rows have changed."""
    old: DataFrame | None
    """The same of the version that the target holds; None if all documents must be compared with the target."""
    shape: VectorShape | None = None
    """Of vectors."""


class Target(Protocol):
    """Where documents go. It says by itself which version it holds."""

    takes_changes: bool
    """Whether it needs changed documents alone, not all of them."""

    def last(self, collection: Collection) -> Exported | None:
        """The last export that was completed."""

    def interrupted(self, collection: Collection) -> str | None:
        """The content id of an export that was not completed, and whose documents readers may see."""

    def publish(self, export: Export) -> dict[str, int]:
        """Write documents, remove others, then show the new version. Returns the numbers of both."""

    def close(self) -> None:
        """Give up connections and locks."""
