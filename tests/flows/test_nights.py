"""Two nights of the whole chain: what the second one learns from the first."""

import shutil
from datetime import date

import pytest

from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.origins import origins
from recsys_spark.tables.schemas import CHANGES, EVENTS, ITEM_VECTORS, METRICS, PRICE_CUTS, RECOMMENDATIONS, TABLES

FIRST, SECOND, THIRD = date(2024, 3, 1), date(2024, 3, 10), date(2024, 3, 11)


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def note(self, text):
        self.said.append(text)


class Shop:
    """A shop of its own and its lake."""

    def __init__(self, spark, shop, model, folder):
        self.spark, self.data, self.lake, self._model = spark, folder / "shop", Lake(str(folder / "lake")), model
        self.said = []
        shutil.copytree(shop, self.data)

    @property
    def run(self):
        return Run("refresh_lake", self.lake, Heard(self.said))

    def options(self, run_date, **more):
        known = {"dataset": str(self.data / "shop.toml"), "data": str(self.data), "model": str(self._model), "k": 3}
        return RefreshOptions(
            lake=self.lake.uri, run_date=run_date, refit_share=0.5, **{"scorer": "cosine"} | known | more
        )

    def add(self, name, row):
        with (self.data / name).open("a", encoding="utf-8") as file:
            file.write(row + "\n")

    def refresh(self, run_date, **more):
        return refresh_lake(self.run, self.options(run_date, **more))

    def rows(self, table):
        return [row.asDict() for row in self.lake.read(self.spark, table).collect()]


@pytest.fixture(scope="module")
def nights(spark, shop, tiny_bert, tmp_path_factory):
    """The reports of two nights; events of the first days of March are in the log from the start."""
    place = Shop(spark, shop, tiny_bert, tmp_path_factory.mktemp("nights"))
    place.add("log.csv", "u3,a4,purchase,2024-03-12 10:00:00")  # after the second night
    first = place.refresh(FIRST)
    options = EvaluationOptions(lake=place.lake.uri, run_date=FIRST)
    by_itself = evaluate_recommendations(place.run, options)
    files = place.lake.files(METRICS)
    again = evaluate_recommendations(place.run, options)
    assert again | {"status": "done", "tables": by_itself["tables"]} == by_itself
    assert (again["status"], place.lake.files(METRICS)) == ("unchanged", files)
    place.add("log.csv", "u3,a1,purchase,2024-03-02 10:00:00")
    place.add("products.csv", "a7,blue hat,bob,clothes,9.5")
    second = place.refresh(SECOND)
    return place, first, by_itself, second


def test_yesterdays_lists_are_scored_against_todays_events(nights):
    place, first, by_itself, second = nights
    assert "evaluation" not in first
    assert by_itself["users_evaluated"] == 3  # all later events, u3's of the day after the second night among them
    found = second["evaluation"]
    assert (found["run_date"], found["users_evaluated"]) == ("2024-03-01", 3)
    rows = place.rows(METRICS)
    assert {row["run_date"] for row in rows} == {FIRST}
    assert [row["users"] for row in rows if row["metric"] == "hit_rate"] == [3, 3]
    assert len({tuple(row[name] for name in METRICS.key) for row in rows}) == len(rows)
    known = {row["evaluation"]: f"{row['until']:%m-%d}" for row in rows}
    assert known == {1: "03-12", 2: "03-06"}, "all later events, then those before the second night"
    u3 = found["metrics"]["hit_rate@10"] * 3
    assert u3 == pytest.approx(round(u3), abs=1e-3)


def test_a_night_that_comes_back_scores_nothing_twice(nights):
    place, *_ = nights
    before = len(place.rows(METRICS))
    again = place.refresh(SECOND)
    assert (again["status"], "evaluation" in again) == ("unchanged", False)
    assert len(place.rows(METRICS)) == before
    assert len(place.rows(CHANGES)) == len({tuple(row.values()) for row in place.rows(CHANGES)})


def test_every_table_says_what_is_new_in_it(nights):
    place, first, _, second = nights
    found = {(row["table"], row["run_date"]): row for row in place.rows(CHANGES)}
    new = {table: found[table, SECOND] for table in ("items", "users", "events", "embeddings", "item_vectors")}
    assert {name: (row["rows"], row["added"], row["changed"], row["removed"]) for name, row in new.items()} == {
        "items": (7, 1, 0, 0), "users": (3, 0, 0, 0), "events": (9, 1, 0, 0), "embeddings": (7, 1, 0, 0),
        "item_vectors": (7, 1, 0, 0),
    }  # fmt: skip
    assert found["users", SECOND]["made"] == "none"
    assert second["events_changes"] == {"added": 1, "changed": 0, "removed": 0}


def test_column_lineage_knows_every_input_of_a_night(nights):
    place, *_ = nights
    for table in TABLES.values():
        commit = place.lake.last_commit(table)
        inputs = set(commit.provenance.inputs or ()) if commit else set()
        assert inputs <= {name for pairs in origins(table).values() for name, _ in pairs}, table.name


def test_work_on_everything_is_announced_with_its_reason(nights):
    place, *_ = nights
    assert place.said.index("build_profiles: all: it is the first run") < place.said.index(
        "recommend_items: all: it is the first run"
    )


def test_a_day_without_anything_new_keeps_the_lists_and_dates_them(nights):
    place, *_ = nights
    tables = (EVENTS, RECOMMENDATIONS)
    was = [place.rows(table) for table in tables]
    third = place.refresh(THIRD)
    events, lists = (place.rows(table) for table in tables)
    assert "ingest_tables" in third["stages"]
    assert sorted(map(str, events)) == sorted(map(str, was[0]))
    assert {row["run_date"] for row in lists} == {THIRD}
    strip = [sorted((r["user_id"], r["rank"], r["item_id"], r["score"]) for r in rows) for rows in (was[1], lists)]
    assert strip[0] == strip[1]
    assert (third["texts_encoded"], third["profiles_made"]) == (0, "none")


def test_a_new_price_moves_no_other_item_until_prices_are_taken_anew(nights):
    place, _, _, second = nights
    assert second["item_vectors_changes"] == {"added": 1, "changed": 0, "removed": 0}
    assert second["price_cuts_fitted_on"] == 5
    options = place.options(SECOND, refit_prices=True)
    was = {row["model"] for row in place.rows(ITEM_VECTORS)}
    report = build_item_vectors(place.run, options, resolve_model(options, place.run))
    assert (report["price_cuts_fitted_on"], report["item_vectors_changes"]["changed"]) == (6, 7)
    assert {row["fit"] for row in place.rows(PRICE_CUTS)} == {1, 2}
    assert {row["model"] for row in place.rows(ITEM_VECTORS)}.isdisjoint(was), "old and new never meet"
