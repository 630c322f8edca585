"""Items and users with the atoms of a rule base: which of its conditions hold for them. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.rules.rule_file import RuleBook, item_columns_of
from recsys_spark.topk.batch_rules import ATOMS

ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price", "locale", "available_from", "available_until")

USER_COLUMNS = ("user_id", "locale", "groups")

ATOM = "_atom"

_PAIR_BIT = 1 << 62  # atoms of values never equal those of conditions, which count from 0


def item_values(items: DataFrame, book: RuleBook, day: date) -> DataFrame:
    """The columns of items that conditions name: ITEM_COLUMNS, attributes, ``run_date``."""
    return _with_attributes(items, ITEM_COLUMNS, book.items, day)


def user_values(ids: DataFrame, users: DataFrame | None, events: DataFrame, book: RuleBook, day: date) -> DataFrame:
    """The columns of users that conditions name: USER_COLUMNS, attributes, histories, ``run_date``.

    Args:
        ids: ``user_id``, once each.
        users: rows of the table ``users``; users without a row have no attributes.
        events: of the histories.
        book: the rules.
        day: of the run.
    """
    rows = ids.select("user_id")
    if users is not None:
        rows = rows.join(users.select(*USER_COLUMNS, "attributes"), on="user_id", how="left")
    kinds = {"locale": "string", "groups": "array<string>", "attributes": "string"}
    rows = rows.withColumns({n: F.lit(None).cast(kind) for n, kind in kinds.items() if n not in rows.columns})
    values = _with_attributes(rows, USER_COLUMNS, book.users, day)
    if not book.histories:
        return values
    lists = {name: F.array_sort(F.collect_set(F.when(F.expr(text), F.col("item_id")))).alias(name)
             for name, text in book.histories.items()}  # fmt: skip
    had = events.withColumn("run_date", F.lit(day)).groupBy("user_id").agg(*lists.values())
    none = F.array().cast("array<string>")
    return values.join(had, on="user_id", how="left").withColumns({n: F.coalesce(n, none) for n in book.histories})


def with_item_atoms(values: DataFrame, book: RuleBook) -> DataFrame:
    """``item_id, rule_atoms`` of ``item_values``."""
    atoms = [F.when(F.expr(text), F.lit(n)).cast("bigint") for n, text in enumerate(book.item_conditions)]
    for number, (items, _, pairs, _) in enumerate(book.pair_conditions):
        atom = value_atom(number, pairs)
        atoms.append(F.when(F.expr(items), atom) if items else atom)
    return values.select("item_id", true_ones(atoms).alias(ATOMS))


def value_atom(number: int, pairs: str) -> Column:
    """The atom of the values that a condition on pairs (with its number) reads of an item."""
    parts = [part for name in item_columns_of(pairs) for part in (F.col(name), F.col(name).isNull())]
    return F.xxhash64(F.lit(number), *parts).bitwiseOR(F.lit(_PAIR_BIT))


def pair_values(values: DataFrame, book: RuleBook, most: int) -> DataFrame:
    """One row: for each condition on pairs an array of the distinct values that it reads of items, with their atoms; at
    most ``most`` + 1 of them."""
    columns = []
    for number, (items, _, pairs, _) in enumerate(book.pair_conditions):
        value = F.struct(value_atom(number, pairs).alias(ATOM), *item_columns_of(pairs))
        value = F.when(F.expr(items), value) if items else value
        columns.append(F.slice(F.array_sort(F.collect_set(value)), 1, most + 1).alias(_values(number)))
    return values.agg(*columns)


def with_user_atoms(values: DataFrame, book: RuleBook, compared: DataFrame | None) -> DataFrame:
    """``user_id, rule_atoms`` of ``user_values``.

    ``compared``: the row of ``pair_values``, if there are conditions on pairs. Each is evaluated once for a user and a
    distinct value, not for every item.
    """
    atoms = [F.when(F.expr(text), F.lit(n)).cast("bigint") for n, text in enumerate(book.user_conditions)]
    listed = true_ones(atoms)
    if compared is not None:
        user = F.struct(*(name for name in values.columns if name != "run_date")).alias("user")
        values = values.select("*", user).crossJoin(F.broadcast(compared))
        hits = [_hits(number, *one) for number, one in enumerate(book.pair_conditions)]
        listed = F.array_sort(F.concat(listed, *hits))
    return values.select("user_id", listed.alias(ATOMS))


def with_quota_group(rows: DataFrame, values: DataFrame, book: RuleBook) -> DataFrame:
    """Item rows with the ``quota_group`` of the rule that diversifies, if there is one."""
    rule = book.diversify
    if rule is None:
        return rows
    value = F.expr(rule.by or "").cast("string")
    group = F.when(value.isNotNull(), F.xxhash64(value).bitwiseAND(F.lit((1 << 62) - 1)))
    group = F.when(F.expr(rule.items), group) if rule.items else group
    groups = values.select("item_id", group.alias("quota_group"))
    return rows.drop("quota_group").join(groups, on="item_id", how="left")


def _hits(number: int, _: str | None, users: str | None, pairs: str, negated: bool) -> Column:
    """The atoms of the values for which a condition on pairs is true of a user; of a negated one, not true."""
    holds = f"NOT coalesce(({pairs}), false)" if negated else f"coalesce(({pairs}), false)"
    atoms = F.expr(f"transform(filter({_values(number)}, item -> {holds}), item -> item.{ATOM})")
    none = F.array().cast("array<bigint>")
    return F.when(F.expr(users), atoms).otherwise(none) if users else atoms


def _values(number: int) -> str:
    return f"_values_{number}"


def _with_attributes(rows: DataFrame, names: tuple[str, ...], types: dict[str, str], day: date) -> DataFrame:
    columns: list[Column | str] = [*names]
    if types:
        ddl = ", ".join(f"`{name}` {kind}" for name, kind in types.items())
        rows = rows.withColumn("_given", F.from_json("attributes", ddl))
        columns += [F.col("_given")[name].alias(name) for name in types]
    return rows.select(*columns, F.lit(day).alias("run_date"))


def true_ones(values: list[Column]) -> Column:
    """The values that are not null, ascending.

    Spark interprets the argument of ``array_sort``, and generates code for that of ``array_compact``: code for hundreds
    of conditions takes half a minute to compile, or does not compile at all.
    """
    return F.array_sort(F.array_compact(F.array(*values))) if values else F.array().cast("array<bigint>")
