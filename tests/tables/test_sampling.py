"""Samples by hash: of the wanted size, the same for any partitions, nested."""

from recsys_spark.tables.sampling import hash_sample


def test_a_sample_has_its_share_whatever_the_partitions_and_is_nested(spark):
    users = spark.range(20_000).selectExpr("concat('u', id) AS user_id")

    def drawn(share, partitions):
        rows = users.repartition(partitions).where(hash_sample("user_id", share)).collect()
        return {row["user_id"] for row in rows}

    tenth, third = drawn(0.1, 3), drawn(0.3, 5)
    assert tenth == drawn(0.1, 1)
    assert tenth < third
    assert abs(len(tenth) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert drawn(0, 2) == set()
    assert len(drawn(1, 2)) == 20_000
