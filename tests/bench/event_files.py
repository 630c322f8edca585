"""A log of events in files that come night by night."""

from datetime import date

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress

FIRST = date(2024, 3, 1)


DATASET = """
title = "Shop"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log"
options = { header = true }
[items]
from = "products"
select = { item_id = "sku", title = "name", brand = "brand" }
text = ["{title}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "'view'", timestamp = "day || ' 10:00'", value = "amount" }
earliest = 2024-01-01
"""


class Shop:
    """Raw files that grow, and lakes ingested from them."""

    def __init__(self, folder, dataset=DATASET):
        self.folder, self.lakes = folder, 0
        (folder / "log").mkdir(parents=True)
        (folder / "shop.toml").write_text(dataset, encoding="utf-8")
        (folder / "products.csv").write_text("sku,name,brand\na1,pot,ada\na2,spade,\n", encoding="utf-8")

    def log(self, name, *lines, header="user,sku,day,amount"):
        path = self.folder / "log" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def ingest(self, lake, run_date=FIRST, **more):
        options = IngestOptions(
            lake=lake.uri, run_date=run_date, dataset=str(self.folder / "shop.toml"), data=str(self.folder),
            max_bad_share=1.0,
        )  # fmt: skip
        return ingest_tables(Run("ingest_tables", lake, Progress()), options, **more)

    def lake(self):
        self.lakes += 1
        return Lake(str(self.folder / f"lake-{self.lakes}"))
