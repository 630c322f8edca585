"""Error class and remedy by message pattern, for Spark, the JVM, Python workers, Arrow, Delta and the stores.

Patterns are searched in messages only, never in stack frames. The first match decides, so the order matters: errors
that never pass by themselves come before transient ones.
"""

import re

from recsys_spark.errors import ConflictError, InputError, QualityError, RecsysError, RetryError, UsageError

Kind = tuple[re.Pattern[str], type[RecsysError], str]

FULL_DISK_MESSAGE = "the disk is full: make room, then run the same command again"

DOWN_MESSAGE = "a store or the network is failing at the moment: run the same command again later"

_PYTHON_MEMORY = (
    "raise spark.executor.memoryOverhead (or spark.executor.pyspark.memory where it is set), "
    "or lower user_block_rows, item_block_rows or batch_tokens"
)

_HEAP = (
    "raise spark.executor.memory (in local mode and for the driver: spark.driver.memory), "
    "or use more, smaller partitions (spark.sql.shuffle.partitions)"
)

INTERNAL = re.compile(r"\[INTERNAL_ERROR")
"""Bugs of Spark or of this program: a second try does not help."""

FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk")

_GPU_MEMORY = r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"

MEMORY = re.compile(
    rf"{_GPU_MEMORY}|MemoryError|Unable to allocate|can't allocate memory|not enough memory: you tried|ArrowMemoryError"
    r"|malloc of size \d+ failed|std::bad_alloc|Cannot allocate memory"
)
"""Messages of numpy, torch and Arrow when the memory of Python or of a GPU is full."""

REFUSED = re.compile(
    r"\bAccess ?Denied|ACCESS_DENIED|AllAccessDisabled|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|SignatureDoesNotMatch"
    r"|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|EXPIRED_TOKEN|InvalidToken|InvalidClientTokenId|INVALID_CLIENT_TOKEN_ID"
    r"|UNRECOGNIZED_CLIENT|RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|NoSuchBucket|NO_SUCH_BUCKET|InvalidBucketName"
    r"|AuthorizationPermissionMismatch|AuthorizationFailure|AuthenticationFailed|AuthorizationHeaderMalformed"
    r"|ContainerNotFound|FilesystemNotFound|The specified (bucket|container) does not exist|AccountIsDisabled"
    r"|invalid_grant|invalid_client|insufficient (authentication scopes|permission)|does not have storage\."
    r"|(status|status code|HTTP|Client error with status)[:( ]*(401|403)\b|\b40[13] (Forbidden|Unauthorized)"
    r"|NoAuthWithAWSException|CredentialsNotAvailable|Unable to (load|find) (AWS )?credentials|169\.254\.16[89]\."
    r"|Permanent ?Redirect|PERMANENT_REDIRECT|must be addressed using the specified endpoint",
    re.IGNORECASE,
)
"""Messages of stores about wrong keys, missing rights and missing buckets: errors that never pass by themselves."""

TRANSIENT = re.compile(
    r"No space left on device|Disk quota exceeded|error sending request|connection (refused|reset|closed|aborted|error)"
    r"|NETWORK_CONNECTION|couldn't (connect|resolve host)|timed out|TimeoutException|timeout was reached"
    r"|Timeout waiting|SLOW_?DOWN|slow down|reduce your request rate|THROTTL|TOO_?MANY_?REQUESTS"
    r"|SERVICE[_ ]?UNAVAILABLE|SERVER_?BUSY|OperationTimedOut|(?<!\[)\bINTERNAL_?(FAILURE|ERROR)\b"
    r"|internal server error|bad gateway|(status|status code|HTTP|server error with status)[:( ]*(408|429|50[0234])\b"
    r"|NoRouteToHost|UnknownHostException|Unable to execute HTTP request|ConnectException|SocketException"
    r"|Premature end of Content-Length|Connection pool shut down|EOF occurred in violation of protocol",
    re.IGNORECASE,
)
"""Messages of transient errors of stores, clients and the JVM."""

_JVM_GONE = (
    r"Answer from Java side is empty|Error while (sending|receiving)|trying to connect to the Java server"
    r"|Java gateway process exited|SparkContext (was|has been) (shut down|stopped)|Cannot call methods on a stopped"
)

_EXECUTOR_MEMORY = (
    r"exit(ed with)? (code|status)[: ]*137|Container killed (by YARN )?(for|on) exceeding|OOMKilled"
    r"|beyond (the )?'?(physical|virtual)'? memory limits?"
)

_UNREADABLE_TYPES = (
    r"PARQUET_TYPE_(ILLEGAL|NOT_SUPPORTED|NOT_RECOGNIZED)|UNSUPPORTED_TIME_TYPE|PARQUET_CONVERSION_FAILURE"
)

_CONNECTORS = r"DATA_SOURCE_NOT_FOUND|DATA_SOURCE_NOT_ENABLED|DATA_SOURCE_NOT_EXIST"

_FILE_SYSTEMS = r"ClassNotFoundException: (Class )?[\w.]*FileSystem\b|No FileSystem for|UNSUPPORTED_FILE_SYSTEM"

_VALUES = r"\[(CAST_INVALID_INPUT|CANNOT_PARSE_TIMESTAMP|CANNOT_PARSE_TIME\b|NUMERIC_VALUE_OUT_OF_RANGE|DIVIDE_BY_ZERO)"

_VALUES_OF_SQL = (
    r"\[(ARITHMETIC_OVERFLOW|INVALID_ARRAY_INDEX|INVALID_INDEX_OF_ZERO|DATETIME_OVERFLOW|INVALID_FRACTION_OF_SECOND"
    r"|DATETIME_FIELD_OUT_OF_BOUNDS|MALFORMED_RECORD_IN_PARSING).*== SQL"
)

_PATTERNS_OF_SQL = (
    r"INVALID_DATETIME_PATTERN|INVALID_PARAMETER_VALUE\.(PATTERN|REGEX)|INCONSISTENT_BEHAVIOR_CROSS_VERSION"
)

_HEADERS = r"Number of column in CSV header is not equal|CSV header does not conform"

_TABLE: list[tuple[str, type[RecsysError], str]] = [
    # First, because these messages quote values, which may hold any words.
    (f"{_VALUES}|{_VALUES_OF_SQL}", QualityError,
     "a value does not fit an expression of the dataset file; use try_cast, try_to_timestamp or try_divide there, "
     "so that the row is quarantined"),
    (FULL_DISK.pattern, RetryError, FULL_DISK_MESSAGE),
    (r"TaskResourceProfiles are only supported|No executor resource configs were specified", UsageError,
     "gpu_share needs a cluster whose executors have GPUs (SPARK_PROFILE=gpu)"),
    # Memory: separate settings size the JVM heap, GPU memory and the memory of Python.
    (r"java\.lang\.OutOfMemoryError|SparkOutOfMemoryError|Java heap space|GC overhead limit|UNABLE_TO_ACQUIRE_MEMORY"
     r"|Not enough memory to build and broadcast|_LEGACY_ERROR_TEMP_2250|Cannot grow BufferHolder", UsageError,
     f"the JVM's heap is too small: {_HEAP}"),
    (_GPU_MEMORY, UsageError,
     "the GPU's memory is too small: lower batch_tokens, or run fewer tasks on one GPU (gpu_share)"),
    (r"offset overflow while concatenating|CapacityError|array cannot contain more than 2147483646", UsageError,
     "one Arrow array would hold more than 2 GB of text or ids: "
     "lower user_block_rows, item_block_rows or max_text_chars"),
    (MEMORY.pattern, UsageError,
     f"Python ran out of memory: {_PYTHON_MEMORY}"),
    (r"Python worker exited unexpectedly|Python worker process terminated", UsageError,
     f"a Python worker was killed, usually by the system for lack of memory: {_PYTHON_MEMORY}"),
    (_EXECUTOR_MEMORY, UsageError,
     "an executor was killed for using more memory than it had requested: raise spark.executor.memoryOverhead"),
    (r"No module named|ModuleNotFoundError", UsageError,
     "the executors' Python lacks a module: set RECSYS_PYTHON (of a notebook: PYSPARK_PYTHON) to a Python that has the "
     "requirements of setup.py"),
    (r"PYTHON_VERSION_MISMATCH|different version from that in driver", UsageError,
     "driver and executors run different versions of Python: set RECSYS_PYTHON to a Python that both have"),
    # Stores and the system.
    (f"(?i:{REFUSED.pattern})", InputError,
     "a store refuses access: check that the bucket exists and that the credentials are valid and allow reading and "
     "writing"),
    (r"FileNotFoundError.*_blocks/", ConflictError,
     "vacuum_lake or forget_users removed the item blocks that this run was reading; run again"),
    (f"(?i:{TRANSIENT.pattern})", RetryError, DOWN_MESSAGE),
    (r"ExecutorLostFailure|Slave lost|worker lost|Remote RPC client disassociated|ExecutorLossReason"
     r"|MetadataFetchFailed|FetchFailed", RetryError,
     "executors were lost: run the same command again (if it happens again, see their logs)"),
    (_JVM_GONE, RetryError,
     "Spark's JVM has ended, killed by another process or out of memory: run the same command again; if it ends again, "
     "raise spark.driver.memory if its heap was full, or lower it if the machine's memory was full"),
    (r"Permission denied|AccessControlException|java\.nio\.file\.AccessDeniedException|Operation not permitted",
     InputError, "the user who runs this job has no permission to read or write a file"),
    (r"Read-only file system", InputError, "the file system is read-only: give a folder on another one"),
    (r"Too many open files", UsageError, "the limit on open files is too low: raise it (ulimit -n)"),
    (r"File name too long", UsageError, "a path is too long for the file system: give a shorter one"),
    (r"Input/output error|Stale file handle", InputError, "the disk or network share has a fault"),
    # The dataset file.
    (_CONNECTORS, UsageError,
     "Spark does not know the format or lacks its connector: check `format`, or add the connector (-- --packages ...)"),
    (_FILE_SYSTEMS, UsageError,
     "Spark has no connector for this file system: check the URI, or add the connector (-- --packages ...)"),
    (r"Illegal file pattern|URISyntaxException", UsageError, "a path or path pattern is invalid"),
    (_PATTERNS_OF_SQL, UsageError, "a pattern in an expression of the dataset file is invalid"),
    (r"INVALID_PARAMETER_VALUE\.CHARSET|UnsupportedCharsetException", UsageError,
     "the `encoding` of a source is unknown to Spark"),
    # Files.
    (r"PATH_NOT_FOUND|FILE_NOT_EXIST", InputError, "an input path does not exist"),
    (_HEADERS, InputError,
     "the header of an input file differs from that of the others (or from the schema of the dataset file)"),
    (r"PARQUET_COLUMN_DATA_TYPE_MISMATCH|SchemaColumnConvertNotSupported|CANNOT_MERGE_(SCHEMAS|INCO)", InputError,
     "a column has another type in one input file than in the others (or than in the schema)"),
    (_UNREADABLE_TYPES, InputError,
     "an input file has a column of a type that Spark cannot read: write it as another type (times as timestamps in "
     "microseconds; pandas: to_parquet(..., coerce_timestamps='us'))"),
    (r"FAILED_READ_FILE|CANNOT_READ_FILE|CRC|checksum|is not a Parquet file|invalid stored block|ZipException"
     r"|incorrect (header|data) check|Unexpected end of (input )?stream|not a gzip|magic bytes not found"
     r"|Parquet file size is", InputError,
     "an input file is unreadable or damaged"),
    (r"COLUMN_ALREADY_EXISTS|DUPLICATED?_FIELD|Found duplicate (field|column)", InputError,
     "two columns of an input have the same name (letter case is ignored): rename one of them"),
    (r"UNABLE_TO_INFER_SCHEMA", InputError,
     "the columns of an input are unknown: it holds no data, or has another format"),
    # Delta.
    (r"(reader|writer) version|Feature '.*' is not supported|Unsupported .*(reader|writer) features?", InputError,
     "another program has changed a table of the lake with Delta features that are not supported here: build the "
     "table again"),
    (r"concurrent transaction|[Cc]ommit conflict|Failed to commit transaction|Version .*already exists", ConflictError,
     "another program committed to the table first; run again"),
    (r"Invalid JSON in|Kernel error: Json error|LogSegment|[Mm]issing version", InputError,
     "the log of a table is damaged"),
]  # fmt: skip

KINDS: list[Kind] = [(re.compile(pattern), kind, meaning) for pattern, kind, meaning in _TABLE]
