"""Gini of exposure and NDCG on later events of re-ranked lists beside the scorer's own, read from lakes by plain lines.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/bench_fairness.py --lake=LAKE --run_date=DAY --scorer=auto \
        'exposure_evenness=0.1' 'exposure_floor={"tail": 0.3}'

LAKE has been refreshed, with later events. Each setting (keys joined by " --") is a run of recommend_items on a copy of
the lake; the first run has none. Exposure at rank r is 1/log2(1 + r), over all items of the catalogue; NDCG@k is over
the users who choose something on or after DAY (ratings from 4, other positive events; users without a list count 0).
The last line is one JSON object.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]
POSITIVE = {"view", "click", "cart", "purchase"}


def gini(values):
    ordered, n = np.sort(values), len(values)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def wanted_items(lake, day):
    events = DeltaTable(f"{lake}/events").to_pandas()
    good = events[((events.event_type == "rating") & (events.value >= 4)) | events.event_type.isin(POSITIVE)]
    seen = events[events.timestamp < day].groupby("user_id").item_id.agg(set).to_dict()
    later = good[good.timestamp >= day].groupby("user_id").item_id.agg(set).items()
    return {user: left for user, items in later if (left := items - seen.get(user, set()))}


def figures(lake, k, wanted, items):
    rows = DeltaTable(f"{lake}/recommendations").to_pandas().sort_values(["user_id", "rank"])
    gains = 1 / np.log2(np.arange(2, k + 2))
    lists = rows.groupby("user_id").item_id.agg(list).to_dict()
    ndcg = np.zeros(len(wanted))
    for at, (user, items_wanted) in enumerate(wanted.items()):
        hits = np.array([item in items_wanted for item in lists.get(user, [])], bool)
        ndcg[at] = gains[: len(hits)][hits].sum() / gains[: len(items_wanted)].sum()
    exposure = pd.Series(gains[rows["rank"] - 1], rows.item_id).groupby(level=0).sum().reindex(items, fill_value=0.0)
    sizes = rows.groupby("user_id").size()
    return {
        "ndcg": ndcg,
        "gini": gini(exposure.to_numpy()),
        "coverage": float((exposure > 0).mean()),
        "shortest": int(sizes.min()),
        "lists": len(sizes),
    }


def run_job(lake, options, setting):
    command = [str(ROOT / "spark-submit.sh"), "recommend_items", f"--lake={lake}", "--accept_drift=true", "--full=true"]
    command += [f"--{name}={options[name]}" for name in ("run_date", "scorer", "k", "rerank_from") if name in options]
    if not setting:
        command = [one for one in command if not one.startswith("--rerank_from")]
    done = subprocess.run([*command, *setting], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{setting}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    options = dict(one.removeprefix("--").split("=", 1) for one in sys.argv[1:] if one.startswith("--"))
    settings = [[f"--{key}" for key in one.split(" --")] for one in sys.argv[1:] if not one.startswith("--")]
    lake, k, day = options["lake"], int(options.setdefault("k", "10")), pd.Timestamp(options["run_date"], tz="UTC")
    wanted, items = wanted_items(lake, day), DeltaTable(f"{lake}/items").to_pandas().item_id
    report = []
    with tempfile.TemporaryDirectory() as folder:
        copy = f"{folder}/lake"
        shutil.copytree(lake, copy)
        for setting in [[], *settings]:
            status = run_job(copy, options, setting)
            one = figures(copy, k, wanted, items)
            plain = plain if report else one  # noqa: F821  (set by the first run)
            change = one["ndcg"] - plain["ndcg"]
            error = change.std(ddof=1) / len(change) ** 0.5
            row = {"setting": " ".join(setting) or "none", "users": len(wanted), "lists": one["lists"]}
            row |= {f"ndcg@{k}": round(float(one["ndcg"].mean()), 4), "gini": round(one["gini"], 4)}
            row |= {"ndcg_change": round(float(change.mean() / plain["ndcg"].mean()), 4)}
            row |= {"ndcg_error": round(float(error / plain["ndcg"].mean()), 4)}
            row |= {"gini_change": round(one["gini"] / plain["gini"] - 1, 4), "coverage": round(one["coverage"], 4)}
            row |= {"shortest_list": one["shortest"], "fairness": status.get("fairness"), "seconds": status["seconds"]}
            print(json.dumps(row), file=sys.stderr, flush=True)
            report.append(row)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
