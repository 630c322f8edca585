"""The contracts of segments of users."""

from recsys_spark.tables.contract import Table

# `similarity`: cosine with the centre of the segment, both without the mean of all profiles.
USER_SEGMENTS = Table(
    "user_segments",
    {"user_id": "string", "segment": "int", "similarity": "float", "run_date": "date"},
    key=("user_id",),
)

# A segment keeps its id over refits. Names come from what many of its users have. `model`: space of the profiles.
SEGMENTS = Table(
    "segments",
    {
        "segment": "int",
        "name": "string",
        "users": "bigint",
        "share": "double",  # of all users with a segment
        "categories": "array<string>",  # that set it apart, as the items
        "items": "array<string>",  # titles
        "run_date": "date",
        "model": "string",
    },
    key=("segment",),
)
