"""Raw files of a small shop."""

import json
from datetime import date

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress

DATASET = """
title = "Shop"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log.jsonl"
format = "json"
schema = "user string, sku string, what string, at string, amount string"
[items]
from = "products"
select = { item_id = "sku", title = "name", brand = "brand" }
text = ["{title}.", "Made by {brand}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "what", timestamp = "at", value = "amount" }
earliest = 2024-01-01
latest = 2024-12-31
"""


PRODUCTS = "sku,name,brand\na1,red tea pot,ada\na2,garden spade,\n"


LOG = [
    {"user": "u1", "sku": "a1", "what": "purchase", "at": "2024-02-01 10:00:00", "amount": "1"},
    {"user": "u2", "sku": "a2", "what": "view", "at": "2024-02-02 10:00:00"},
]


class Shop:
    """Raw files, their dataset file and a lake."""

    def __init__(self, folder):
        self.folder, self.lake = folder, Lake(str(folder / "lake"))
        self.write(products=PRODUCTS, log=LOG, dataset=DATASET)

    def write(self, products=None, log=None, dataset=None):
        if products is not None:
            (self.folder / "products.csv").write_text(products, encoding="utf-8")
        if log is not None:
            text = log if isinstance(log, str) else "".join(json.dumps(row) + "\n" for row in log)
            (self.folder / "log.jsonl").write_text(text, encoding="utf-8")
        if dataset is not None:
            (self.folder / "shop.toml").write_text(dataset, encoding="utf-8")

    def ingest(self, **options):
        defaults = {"run_date": date(2024, 3, 1), "dataset": str(self.folder / "shop.toml"), "data": str(self.folder)}
        run = Run("ingest_tables", self.lake, Progress())
        return ingest_tables(run, IngestOptions(lake=self.lake.uri, **defaults | options))

    def rows(self, spark, table):
        return self.lake.read(spark, table).collect()
