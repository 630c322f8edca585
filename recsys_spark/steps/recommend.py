"""user_profiles, item_vectors and seen items → recommendations."""

from pyspark.sql import Observation
from pyspark.sql import functions as F

from recsys_spark.blocks import is_usable
from recsys_spark.errors import UsageError
from recsys_spark.job import Run
from recsys_spark.options import TopKOptions
from recsys_spark.profiles import before
from recsys_spark.recommend import top_k_join
from recsys_spark.steps.publishing import Inputs, Report, inputs, publish, run_key, unchanged
from recsys_spark.tables import EVENTS, ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES


def recommendations(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users that have a profile."""
    known = inputs(run, USER_PROFILES, ITEM_VECTORS, EVENTS)
    facts = {"inputs": known.versions, "run_date": options.run_date, "k": options.k}
    key = run_key("recommend_items", facts)
    if (done := unchanged(run, key, RECOMMENDATIONS)) is not None:
        return done
    space = _one_space(run, known)
    if options.dry_run:
        return {"tables": {}}
    seen = before(known.frame(run, EVENTS), options.run_date).select("user_id", "item_id")
    counts = Observation("profiles")
    users = known.frame(run, USER_PROFILES).observe(
        counts, F.count("*").alias("users"), F.count_if(~is_usable(F.col("embedding"))).alias("dropped")
    )
    lists = top_k_join(
        users,
        known.frame(run, ITEM_VECTORS),
        options.k,
        seen=seen,
        user_block_rows=options.user_block_rows,
        item_block_rows=options.item_block_rows,
        tasks=options.tasks,
    )
    stamped = lists.withColumns({"run_date": F.lit(options.run_date), "model": F.lit(space)})
    report = publish(run, key, stamped.select(*RECOMMENDATIONS.columns), RECOMMENDATIONS, facts)
    # Spark drops what it knows to be empty, observation included.
    figures = counts.get if run.lake.rows(USER_PROFILES) else {"users": 0, "dropped": 0}
    full = (figures["users"] - figures["dropped"]) * options.k
    return report | {
        "users": figures["users"],
        "profiles_dropped": figures["dropped"],
        "places_short": full - report["tables"][RECOMMENDATIONS.name],
    }


def _one_space(run: Run, known: Inputs) -> str:
    """Two vector spaces never meet: refused by name before anything is multiplied."""
    named = {}
    for table in (USER_PROFILES, ITEM_VECTORS):
        first, last = known.frame(run, table).agg(F.min("model"), F.max("model")).collect()[0]
        if first is not None and first != last:
            raise UsageError(f"table '{table.name}' mixes the vector spaces {first} and {last}: build it again")
        named[table.name] = first
    users, items = named.values()
    if users is not None and users != items:
        raise UsageError(
            f"user_profiles are in vector space {users}, item_vectors in {items}: "
            "run build_profiles again after build_item_vectors"
        )
    return str(items)
