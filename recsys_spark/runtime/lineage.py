"""OpenLineage events of a job, if the environment names where they go (``OPENLINEAGE_URL``, ``OPENLINEAGE_CONFIG`` …).

Off by default: without such a variable nothing is imported. An event that cannot be sent is a warning.
"""

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from recsys_spark.errors.redaction import redacted
from recsys_spark.lake.lake import Commit, Lake
from recsys_spark.lake.paths import absolute, is_uri
from recsys_spark.lake.provenance import Provenance
from recsys_spark.tables.descriptions import column_comments, description
from recsys_spark.tables.origins import origins
from recsys_spark.tables.schemas import TABLES, Table

_PRODUCER = "recsys-spark"
_SWITCHES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")

Finish = Callable[[Mapping[str, Any], object], None]
"""Takes the report, and the folder of the sources if the job has one."""


def start_lineage(job: str, run_date: object) -> Finish | None:
    """Send the START event of a job; None if lineage is off. The result takes the report and sends the last event."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").lower() == "true":
        return None
    if not any(name.startswith(_SWITCHES) for name in os.environ):
        return None
    if find_spec("openlineage") is None:
        _warn("OPENLINEAGE_… is set, but openlineage-python is not installed: pip install 'recsys-spark[lineage]'")
        return None
    try:
        run = _RunEvents(job, run_date)
        run.emit("START", {}, [], [])
    except Exception as error:
        _warn(f"lineage is off in this run: {error}")
        return None
    return run.finish


class _RunEvents:
    """The events of one run: they share its number."""

    def __init__(self, job: str, run_date: object) -> None:
        from openlineage.client import OpenLineageClient
        from openlineage.client.facet_v2 import nominal_time_run
        from openlineage.client.uuid import generate_new_uuid

        self._client, self._number, self._job = OpenLineageClient(), str(generate_new_uuid()), job
        self._facets: dict[str, Any] = {}
        if run_date is not None:
            start = f"{run_date}T00:00:00Z"
            self._facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(nominalStartTime=start)

    def emit(self, state: str, facets: dict[str, Any], inputs: list[Any], outputs: list[Any]) -> None:
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

        event = RunEvent(
            eventType=RunState[state],
            eventTime=datetime.now(UTC).isoformat(),  # when it was sent; no row depends on it
            run=Run(runId=self._number, facets=self._facets | facets),
            job=Job(namespace=os.environ.get("OPENLINEAGE_NAMESPACE") or _PRODUCER, name=self._job),
            producer=_PRODUCER,
            inputs=inputs,
            outputs=outputs,
        )
        self._client.emit(event)

    def finish(self, report: Mapping[str, Any], sources: object) -> None:
        from openlineage.client.facet_v2 import error_message_run

        failed = {}
        if report.get("error"):
            failed = {"errorMessage": error_message_run.ErrorMessageRunFacet(report["error"], "Python")}
        try:
            self.emit("FAIL" if report["status"] == "failed" else "COMPLETE", failed, *_datasets(report, sources))
        except Exception as error:
            _warn(f"the lineage of this run was not sent: {error}")


def _datasets(report: Mapping[str, Any], sources: object) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs: what this run published, what its commits name, and the folder of the sources."""
    if report.get("status") != "done" or "lake" not in report:
        return [], []
    lake, made = Lake(report["lake"]), [TABLES[name] for name in report.get("tables") or {} if name in TABLES]
    commits = {table: commit for table in made if (commit := lake.last_commit(table)) is not None}
    read: dict[str, int] = {}
    for commit in commits.values():
        read |= {name: version for name, version in (commit.provenance.versions or {}).items() if name in TABLES}
    outputs = [_output(lake, table, commit, report["tables"][table.name]) for table, commit in commits.items()]
    inputs = [_input(lake, TABLES[name], version) for name, version in read.items() if TABLES[name] not in commits]
    if sources:
        from openlineage.client.event_v2 import InputDataset

        inputs.append(InputDataset(*place(str(sources))))
    return inputs, outputs


def place(uri: str) -> tuple[str, str]:
    """Namespace and name of a folder as OpenLineage has them: ``s3://bucket`` and ``path``, ``file`` and ``/path``."""
    path = absolute(uri)
    if not is_uri(path):
        return "file", path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")


def _facets(table: Table, version: int) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset, documentation_dataset, schema_dataset

    comments = column_comments(table)
    columns = [
        schema_dataset.SchemaDatasetFacetFields(name=name, type=kind, description=comments[name])
        for name, kind in table.columns.items()
    ]
    return {
        "schema": schema_dataset.SchemaDatasetFacet(fields=columns),
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(version)),
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=description(table)),
    }


def _input(lake: Lake, table: Table, version: int) -> Any:
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(*place(lake.table_uri(table)), facets=_facets(table, version))


def _output(lake: Lake, table: Table, commit: Commit, rows: object) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    count = rows if isinstance(rows, int) else None
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=count)
    facets = _facets(table, commit.version)
    if columns := _column_lineage(lake, table, commit.provenance):
        facets["columnLineage"] = columns
    return OutputDataset(*place(lake.table_uri(table)), facets=facets, outputFacets={"outputStatistics": statistics})


def _column_lineage(lake: Lake, table: Table, provenance: Provenance) -> Any:
    """The columns of the tables that the commit names as its inputs. A commit of a table that only grows names none:
    there they are those that the lake has. None if columns come from no table."""
    from openlineage.client.facet_v2 import column_lineage_dataset as lineage

    read = {**(provenance.inputs or {}), **(provenance.versions or {})}
    columns = {}
    for name, sources in origins(table).items():
        fields = [
            lineage.InputField(*place(lake.table_uri(TABLES[source])), field=column)
            for source, column in sources
            if (source in read if read else lake.version(TABLES[source]) is not None)
        ]
        if fields:
            columns[name] = lineage.Fields(inputFields=fields)
    return lineage.ColumnLineageDatasetFacet(fields=columns) if columns else None


def _warn(words: str) -> None:
    print(f"warning: {redacted(words)}", file=sys.stderr)
