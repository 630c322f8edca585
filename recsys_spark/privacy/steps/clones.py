"""Forget in the clones of a lake as in the lake itself."""

from collections.abc import Callable
from typing import Any

from recsys_spark.errors import ConflictError
from recsys_spark.lake.clones import clone_mark, registered_clones
from recsys_spark.lake.lake import Lake
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run


def forget_in_clones(run: Run, forget: Callable[[Run], Report]) -> dict[str, Any]:
    """Run ``forget`` in every clone of the lake and in their clones; for the proof, the rows removed by clone.

    A clone that is not where it was made is named under ``clones_not_found``: whoever moved it must forget there, and
    whoever deleted it removes its file in ``_clones``.

    Raises:
        ConflictError: a clone is not complete.
    """
    removed, missing = {}, []
    for name, uri in registered_clones(run.lake.uri).items():
        mark = clone_mark(uri)
        if mark is None or mark.name != name:
            missing.append(uri)
            continue
        if not mark.complete:
            raise ConflictError(
                f"{uri} is an unfinished clone of lake {run.lake.uri}, and may hold what is to be forgotten: complete "
                f"it by the same clone_lake, or remove the folder and the file {run.lake.uri}/_clones/{name}.json;"
                " then run again"
            )
        report = forget(Run(run.job, Lake(uri), run.progress, dry_run=run.dry_run))
        removed[uri] = report["proof"]["rows_removed"]
    return ({"clones": removed} if removed else {}) | ({"clones_not_found": missing} if missing else {})
