"""Refreshes of a small shop, and the rows they publish."""

import shutil
from pathlib import Path

from deltalake import DeltaTable

CLEAN = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")


def rows_of(lake: Path) -> list[dict]:
    table = DeltaTable(str(lake / "recommendations")).to_pyarrow_table()
    return table.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()


def refresh(source: Path, lake: Path, model: Path, *more: str) -> list[str]:
    asked = [f"--dataset={source / 'shop.toml'}", f"--data={source}", f"--lake={lake}", f"--model={model}"]
    return ["refresh_lake", *asked, "--run_date=2024-03-01", "--k=3", "--scorer=cosine", *more]


def grown(shop: Path, folder: Path) -> Path:
    """The shop of the next day: one more item, one more event."""
    shutil.copytree(shop, folder)
    with (folder / "products.csv").open("a") as products, (folder / "log.csv").open("a") as log:
        products.write("a7,green tea pot,ada,kitchen/tea,13\n")
        log.write("u3,a4,purchase,2024-02-20 08:00:00\n")
    return folder
