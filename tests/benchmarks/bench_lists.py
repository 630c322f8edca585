"""NDCG of published lists on later events against recent popularity and own history, read from a lake by plain lines.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/bench_lists.py --lake=LAKE --run_date=DAY [--repeats=true]

Every user is evaluated who chooses something on or after the day: ratings from 4, other positive events. Users without
a list count 0. Without repeats, what a user had before is not wanted. The last line is one JSON object.
"""

import json
import sys

import numpy as np
import pandas as pd
from deltalake import DeltaTable

K = 10
POSITIVE = {"view", "click", "cart", "purchase"}


def ndcg(listed, wanted):
    gains = [1 / np.log2(place + 2) for place, item in enumerate(listed[:K]) if item in wanted]
    return sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(K, len(wanted))))


def lists_by(counts, users, own, seen):
    """The K items of greatest count for each user: of ``own`` items first, without those in ``seen``."""
    popular = counts.sort_values(ascending=False).index.tolist()
    lists = {}
    for user in users:
        first = own.get(user, [])
        taken = {*first, *seen.get(user, ())}
        rest = (item for item in popular if item not in taken)
        lists[user] = [*first, *(item for _, item in zip(range(K), rest, strict=False))][:K]
    return lists


def main():
    options = dict(one.removeprefix("--").split("=", 1) for one in sys.argv[1:])
    lake, repeats = options["lake"], options.get("repeats") == "true"
    day = pd.Timestamp(options["run_date"], tz="UTC")
    events, rows = (DeltaTable(f"{lake}/{name}").to_pandas() for name in ("events", "recommendations"))
    good = events[((events.event_type == "rating") & (events.value >= 4)) | events.event_type.isin(POSITIVE)]
    earlier, before = events[events.timestamp < day], good[good.timestamp < day]
    seen = {} if repeats else earlier.groupby("user_id").item_id.agg(set).to_dict()
    pairs = good[good.timestamp >= day][["user_id", "item_id"]].drop_duplicates()
    pairs = pairs[[item not in seen.get(user, ()) for user, item in pairs.itertuples(index=False)]]
    wanted = pairs.groupby("user_id").item_id.agg(set)
    lists = {"lists": rows.sort_values("rank").groupby("user_id").item_id.agg(list).to_dict()}
    ages = (day - before.timestamp).dt.total_seconds() / 86_400
    for days in (7, 30, 90, 365):
        decayed = 2.0 ** (-ages / days)
        counts = decayed.groupby(before.item_id).sum()
        lists[f"popularity_{days}"] = lists_by(counts, wanted.index, {}, seen)
        if repeats:
            own = decayed.groupby([before.user_id, before.item_id]).sum().reset_index()
            own = own.sort_values("timestamp", ascending=False).groupby("user_id").item_id.agg(list).to_dict()
            lists[f"own_history_{days}"] = lists_by(counts, wanted.index, own, {})
    values = {
        name: np.array([ndcg(one.get(user, []), want) for user, want in wanted.items()]) for name, one in lists.items()
    }
    new = ~wanted.index.isin(earlier.user_id)
    report = {"users": len(wanted), "new": int(new.sum()), "users_with_a_list": len(lists["lists"])}
    for name, scores in values.items():
        delta = values["lists"] - scores
        error = delta.std(ddof=1) / len(delta) ** 0.5
        print(
            f"{name:16} {scores.mean():.4f}  lists {delta.mean():+.4f} ± {error:.4f} (standard error)", file=sys.stderr
        )
        report[name] = round(float(scores.mean()), 4)
    report["standard_error"] = round(float(values["lists"].std(ddof=1) / len(wanted) ** 0.5), 4)
    report["new_users"] = round(float(values["lists"][new].mean()), 4) if new.any() else None
    print(json.dumps(report))


if __name__ == "__main__":
    main()
