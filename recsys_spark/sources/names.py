"""Find the sources that a query of a dataset file names."""

import re
from collections.abc import Collection, Sequence

from recsys_spark.sources.dataset_file import Dataset, TableQuery

_TOKEN = re.compile(
    r"`((?:[^`]|``)*)`"  # a quoted name
    r"|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""  # a string: not a name
    r"|--[^\n]*|/\*.*?\*/"  # a comment: not a name
    r"|(\w+)",
    re.DOTALL,
)


_SUBQUERY = {"select", "table", "from"}
"""Words that begin a subquery."""


def named_sources(query: TableQuery, sources: Collection[str]) -> set[str]:
    """The sources that ``query`` reads: its whole ``from``, and every name in its SQL, in any case as in Spark.

    A column that has the name of a source counts as well: the result may hold too many sources, never too few.
    """
    whole = {source for source in sources if source == query.from_.strip()}
    texts = ["" if whole else query.from_, query.where or "", *query.select.values()]
    names = _names(texts)
    return whole | {source for source in sources if source.casefold() in names}


def named_columns(columns: Sequence[str], dataset: Dataset, source: str) -> list[str]:
    """The columns of a source that the queries of a dataset file can read, at least one.

    All of them where a query does more with the source than name its columns: in a join, a subquery, with a ``*``.
    """
    queries = [dataset.items, dataset.events, dataset.users, dataset.user_rules, dataset.reviews]
    texts = list[str]()
    for query in (one for one in queries if one is not None and source in named_sources(one, dataset.sources)):
        sql = [query.where or "", *query.select.values()]
        if query.source != source or "*" in "".join(sql) or _names(sql) & _SUBQUERY:
            return list(columns)
        texts += sql
    names = _names(texts)
    return [column for column in columns if column.casefold() in names] or list(columns[:1])


def _names(texts: Sequence[str]) -> set[str]:
    """The names in texts of SQL, in small letters."""
    return {(quoted or plain).replace("``", "`").casefold() for text in texts for quoted, plain in _TOKEN.findall(text)}
