"""The folder of a stream's position: one stream by name, with the settings that it was started with."""

import json
import uuid
from hashlib import sha256

from pyarrow.fs import FileSystem, FileType

from recsys_spark.errors import UsageError
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, Stream

_FILE = "stream.json"


def stream_name(run: Run, uri: str, dataset: Dataset, stream: Stream, data: str) -> str:
    """The name in commits of the stream whose checkpoint is at ``uri``; a new folder gets a name.

    Raises:
        UsageError: the checkpoint belongs to a stream with other settings.
    """
    # A digest: options of a source may hold passwords.
    source = sha256(stream.model_dump_json().encode()).hexdigest()[:16]
    settings = {"lake": run.lake.uri, "data": data, "source of [stream]": source, "events from": dataset.events.source}
    filesystem, folder = FileSystem.from_uri(uri)
    if filesystem.get_file_info(f"{folder}/{_FILE}").type != FileType.File:
        name = f"stream:{uuid.uuid4().hex}"
        if not run.dry_run:
            filesystem.create_dir(folder, recursive=True)
            write_whole(filesystem, f"{folder}/{_FILE}", json.dumps({"name": name, "settings": settings}).encode())
        return name
    with filesystem.open_input_file(f"{folder}/{_FILE}") as file:
        stored = json.loads(file.read())
    if differing := [name for name, value in settings.items() if stored["settings"].get(name) != value]:
        raise UsageError(
            f"checkpoint {uri} belongs to a stream with another {', '.join(differing)}: give --checkpoint a folder of "
            "its own. The new stream reads its source from the start; events that are stored already change nothing"
        )
    return str(stored["name"])
