"""Find the sources that a query of a dataset file names."""

import re
from collections.abc import Collection

from recsys_spark.sources.dataset_file import TableQuery

_TOKEN = re.compile(
    r"`((?:[^`]|``)*)`"  # a quoted name
    r"|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""  # a string: not a name
    r"|--[^\n]*|/\*.*?\*/"  # a comment: not a name
    r"|(\w+)",
    re.DOTALL,
)


def named_sources(query: TableQuery, sources: Collection[str]) -> set[str]:
    """The sources that ``query`` reads: its whole ``from``, and every name in its SQL, in any case as in Spark.

    A column that has the name of a source counts as well: the result may hold too many sources, never too few.
    """
    whole = {source for source in sources if source == query.from_.strip()}
    texts = ["" if whole else query.from_, query.where or "", *query.select.values()]
    names = {
        (quoted or plain).replace("``", "`").casefold() for text in texts for quoted, plain in _TOKEN.findall(text)
    }
    return whole | {source for source in sources if source.casefold() in names}
