"""The contracts of private releases and of their ledger."""

from recsys_spark.tables.contract import Table

# Private releases: rows with noise from a secure source (`privacy.kernels.gaussian`). `epsilon` and `delta` are those
# of the release. A version is one release.
NOISY_PROFILES = Table(
    "noisy_profiles",
    {"user_id": "string", "model": "string", "embedding": "array<float>", "epsilon": "double", "delta": "double"},
    key=("user_id",),
)

NOISY_MEANS = Table(
    "noisy_means",
    {
        "group": "string",
        "model": "string",
        "embedding": "array<float>",
        "users": "double",  # with noise: may be negative
        "epsilon": "double",
        "delta": "double",
    },
    key=("group",),
)

NOISY_COUNTS = Table(
    "noisy_counts",
    {"item_id": "string", "users": "bigint", "epsilon": "double", "delta": "double"},
    key=("item_id",),
)

# Append-only: what private releases have spent. `total_epsilon` is the composition of all entries up to this one.
PRIVACY_LEDGER = Table(
    "privacy_ledger",
    {
        "entry": "int",  # counted from 1
        "release": "string",  # run key
        "what": "string",
        "run_date": "date",
        "scale": "double",
        "sensitivity": "double",
        "rho": "double",  # zero-concentrated differential privacy
        "epsilon": "double",
        "delta": "double",
        "total_epsilon": "double",
        "budget": "double",
    },
    key=("entry",),
)
