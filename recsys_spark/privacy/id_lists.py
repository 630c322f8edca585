"""Read lists of ids: separated by commas, one per line, or as JSON."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from recsys_spark.errors import InputError, UsageError
from recsys_spark.privacy.raw_rows import SPACE


def read_ids(by_comma: str | None, file: str | None) -> list[str]:
    """The distinct ids, sorted and trimmed as ingest trims them: other blanks (a no-break space) belong to an id.

    Raises:
        InputError: the file cannot be read.
        UsageError: the file ends in ``.json`` and does not hold a list of ids.
    """
    names = (by_comma or "").split(",")
    if file is not None:
        names += _json_ids(file, _text(file)) if file.endswith(".json") else re.split(r"\r?\n", _text(file))
    return sorted({name.strip(SPACE) for name in names} - {""})


def _text(file: str) -> str:
    try:
        return Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"file of ids {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"file of ids {file} is not UTF-8: byte {error.start + 1}; save it as UTF-8") from error


def _json_ids(file: str, text: str) -> Iterable[str]:
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise UsageError(f"file of ids {file} is not JSON: {error}") from error
    if not isinstance(ids, list) or any(isinstance(n, bool) or not isinstance(n, str | int) for n in ids):
        raise UsageError(f'file of ids {file} must be a JSON list of ids, such as ["7", "a,b"]')
    return map(str, ids)
