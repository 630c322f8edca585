"""The process that Spark forks Python workers from, with the packages that nearly all of them import.

Spark ends a worker that had no task for a minute. Without this the next one imports NumPy, pandas, Arrow and PyTorch
again.
"""

from contextlib import suppress

import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet  # noqa: F401
import scipy.sparse  # noqa: F401
import torch  # noqa: F401
from pyspark.daemon import manager
from transformers import BertModel, PreTrainedTokenizerFast  # noqa: F401

import recsys_spark.encode.kernels.encoder  # noqa: F401

with suppress(ImportError):
    import pyiceberg.io.pyarrow  # noqa: F401

if __name__ == "__main__":
    manager()
