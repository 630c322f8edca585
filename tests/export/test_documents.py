"""Documents of lists: which ids have changed between two versions."""

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.export.documents import changed_ids
from recsys_spark.tables.schemas import RECOMMENDATIONS

ENTRIES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.5, -1.0]), st.sampled_from([None, "own"])))
VERSIONS = st.dictionaries(st.sampled_from(["u1", "u2", "u3", "ü"]), ENTRIES)


def frame(spark, lists, day, model):
    rows = [
        (user, item, score, rank, day, model, None, source)
        for user, entries in lists.items()
        for rank, (item, score, source) in enumerate(entries, 1)
    ]
    schema = ", ".join(f"{name} {kind}" for name, kind in RECOMMENDATIONS.columns.items())
    return spark.createDataFrame(rows, schema)


@settings(max_examples=12)
@given(VERSIONS, VERSIONS)
def test_ids_have_changed_whose_entries_differ_in_value_or_order(spark, old, new):
    """A date and a model are in no document: another of them changes nothing."""
    versions = frame(spark, old, date(2024, 1, 1), "m1"), frame(spark, new, date(2024, 1, 2), "m2")
    found = {row["user_id"] for row in changed_ids(*versions, "user_id").collect()}
    assert found == {user for user in {*old, *new} if old.get(user, []) != new.get(user, [])}
