"""Exit code and cause of errors of Spark, the JVM, Python workers, Arrow, Delta and the stores."""

import errno
import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import AnalysisException, IllegalArgumentException, PySparkException, PythonException

from recsys_spark.errors import InputError, QualityError, RetryError, UsageError
from recsys_spark.errors.messages import is_transient, source_error, sql_error, to_user_error
from recsys_spark.runtime.lifecycle import silence_traces

FRAMES = "\n\tat org.apache.spark.rdd.RDD.iterator(RDD.scala:338)\n\tat java.base/java.lang.Thread.run(Thread.java:840)"
LOST = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most "
    "recent "
    "failure: Lost task 0.3 in stage 2.0 (TID 11) (10.0.0.7 executor 3): "
)


class JavaError(Py4JError):
    """Stands for a Py4JJavaError, whose text the JVM would supply."""

    def __init__(self, text):
        super().__init__("An error occurred while calling o147.collectToPython.\n: " + text + FRAMES)


def worker(text):
    return PythonException(
        "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n"
        f'  File "/x/recommend.py", line 15, in blocks\n    raise MemoryErrorOfNobody("Connection refused")\n{text}'
    )


def unreadable(file, condition="NO_HINT", more=" ", cause=""):
    cause = f"{FRAMES}\nCaused by: {cause}" if cause else ""
    return JavaError(
        f"org.apache.spark.SparkException: [FAILED_READ_FILE.{condition}] Encountered error while reading file {file}."
        f"{more} SQLSTATE: KD001{cause}"
    )


MEANINGS = [
    # The JVM's heap, the memory of Python and that of the GPU have different remedies.
    (
        JavaError("java.lang.OutOfMemoryError: Java heap space"),
        2,
        ["heap", "spark.driver.memory", "spark.executor.memory"],
    ),
    (JavaError(LOST + "java.lang.OutOfMemoryError: GC overhead limit exceeded"), 2, ["heap", "shuffle.partitions"]),
    (
        JavaError(
            "org.apache.spark.memory.SparkOutOfMemoryError: [UNABLE_TO_ACQUIRE_MEMORY] Unable to acquire 65536 bytes "
            "of memory, got 0. SQLSTATE: 53200"
        ),
        2,
        ["heap", "65536 bytes"],
    ),
    (
        JavaError(
            LOST + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider setting"
            f"{FRAMES}\nCaused by: java.io.EOFException"
        ),
        2,
        ["Python worker was killed", "memoryOverhead"],
    ),
    (
        JavaError(
            LOST
            + "ExecutorLostFailure (executor 3 exited caused by one of the running tasks) Reason: Container killed "
            "by YARN for exceeding physical memory limits."
        ),
        2,
        ["spark.executor.memoryOverhead"],
    ),
    (
        JavaError(
            LOST + "ExecutorLostFailure (executor 3 exited caused by one of the running tasks) Reason: Command exited "
            "with code 137"
        ),
        2,
        ["spark.executor.memoryOverhead"],
    ),
    (
        JavaError(LOST + "ExecutorLostFailure (executor 3 exited unrelated to the running tasks) Reason: worker lost"),
        75,
        ["executors were lost"],
    ),
    (worker("MemoryError"), 2, ["Python ran out of memory", "user_block_rows"]),
    (MemoryError(), 2, ["Python ran out of memory"]),
    (worker("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 PiB for an array"), 2, ["8.00 PiB"]),
    (
        worker(
            "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
            "you "
            "tried to allocate 4503599627370496 bytes."
        ),
        2,
        ["batch_tokens", "4503599627370496"],
    ),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), 2, ["GPU", "batch_tokens"]),
    (
        worker("pyarrow.lib.ArrowInvalid: offset overflow while concatenating arrays, consider casting"),
        2,
        ["2 GB", "user_block_rows"],
    ),
    (pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes, have 2147483700"), 2, ["2 GB"]),
    (pa.ArrowInvalid("Length of names does not match"), None, []),
    # A JVM that has ended.
    (Py4JNetworkError("Answer from Java side is empty"), 75, ["JVM has ended", "spark.driver.memory"]),
    (Py4JError("An error occurred while calling o21.sc"), 75, ["JVM has ended"]),
    (
        JavaError("org.apache.spark.SparkException: Job 34 cancelled because SparkContext was shut down"),
        75,
        ["JVM has ended"],
    ),
    (Py4JError("org.apache.Nope does not exist in the JVM"), None, []),
    # Bugs, of Spark or of the program: never "try again".
    (
        PySparkException(
            "[INTERNAL_ERROR] The Spark SQL phase optimization failed with an internal error. SQLSTATE: XX000"
        ),
        None,
        [],
    ),
    (
        JavaError("org.apache.spark.SparkException: [INTERNAL_ERROR_SHUFFLE] Connection reset. SQLSTATE: XX000"),
        None,
        [],
    ),
    (
        AnalysisException("[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column `x` cannot be resolved. SQLSTATE: 42703"),
        None,
        [],
    ),
    (worker("ValueError: invalid literal for int() with base 10: 'x'"), None, []),
    (worker("FileNotFoundError: [Errno 2] No such file or directory: '/nope/x'"), None, []),
    (ValueError("timed out"), None, []),
    # Files.
    (
        unreadable(
            "file:///d/2.csv",
            cause="org.apache.spark.SparkIllegalArgumentException: Number of column in CSV header is "
            "not equal to number of fields in the schema:\n Header length: 3, schema size: 2\n"
            "CSV file: file:///d/2.csv",
        ),
        4,
        ["header", "/d/2.csv: Number of column in CSV header", "Header length: 3, schema size: 2"],
    ),
    (
        unreadable("file:///d/my%20log/c.csv.gz", cause="java.io.EOFException: Unexpected end of input stream"),
        4,
        ["damaged", "/d/my log/c.csv.gz: Unexpected end of input stream"],
    ),
    (
        unreadable(
            "file:///d/x.parquet", cause="java.lang.RuntimeException: x.parquet is not a Parquet file. Expected magic"
        ),
        4,
        ["/d/x.parquet: ", "is not a Parquet file"],
    ),
    (
        unreadable(
            "file:///d/2.parquet",
            "PARQUET_COLUMN_DATA_TYPE_MISMATCH",
            " Data type mismatches when reading Parquet "
            "column [a]. Expected Spark type double, actual Parquet type BINARY.",
            "org.apache.spark.sql.execution.datasources.SchemaColumnConvertNotSupportedException: column: [a]",
        ),
        4,
        ["another type", "/d/2.parquet: ", "column [a]. Expected Spark type double, actual Parquet type BINARY"],
    ),
    (
        unreadable("s3a://b/x.parquet", cause="java.net.SocketTimeoutException: Read timed out"),
        75,
        ["s3a://b/x.parquet"],
    ),
    (
        unreadable(
            "s3a://b/x.parquet",
            cause="java.nio.file.AccessDeniedException: s3a://b/x.parquet: getFileStatus: "
            "software.amazon.awssdk.services.s3.model.S3Exception: null (Service: S3, Status Code: 403)",
        ),
        4,
        ["credentials", "s3a://b/x.parquet"],
    ),
    (
        unreadable("file:///d/x.csv", cause="java.io.FileNotFoundException: /d/x.csv (Permission denied)"),
        4,
        ["no permission to read", "/d/x.csv"],
    ),
    (unreadable("file:///d/x.csv", cause="java.lang.OutOfMemoryError: Java heap space"), 2, ["heap"]),
    (
        AnalysisException(
            "[PARQUET_TYPE_ILLEGAL] Illegal Parquet type: INT64 (TIMESTAMP(NANOS,false)). SQLSTATE: 42846"
        ),
        4,
        ["microseconds", "TIMESTAMP(NANOS,false)"],
    ),
    (
        AnalysisException("[COLUMN_ALREADY_EXISTS] The column `a` already exists. SQLSTATE: 42711"),
        4,
        ["two columns", "`a`"],
    ),
    (AnalysisException("[PATH_NOT_FOUND] Path does not exist: file:/d/nope.csv. SQLSTATE: 42K03"), 4, ["/d/nope.csv"]),
    # Formats, file systems, options.
    (
        JavaError(
            "org.apache.spark.SparkClassNotFoundException: [DATA_SOURCE_NOT_FOUND] Failed to find the data source: "
            "delta."
            " Make sure the provider name is correct. SQLSTATE: 42K02"
        ),
        2,
        ["connector", "data source: delta"],
    ),
    (
        AnalysisException(
            "[AVRO_DATA_SOURCE_NOT_ENABLED] Failed to find data source: avro. Avro is built-in but external"
        ),
        2,
        ["connector", "avro"],
    ),
    (
        JavaError(
            "java.lang.RuntimeException: java.lang.ClassNotFoundException: Class "
            "org.apache.hadoop.fs.s3a.S3AFileSystem "
            "not found"
        ),
        2,
        ["connector", "S3AFileSystem"],
    ),
    (
        IllegalArgumentException(
            "[INVALID_PARAMETER_VALUE.CHARSET] The value of parameter(s) `charset` in `CSVOptions` is "
            "invalid: expects one of the utf-8, but got klingon. SQLSTATE: 22023"
        ),
        2,
        ["encoding", "klingon"],
    ),
    # Values, which may hold any words.
    (
        PySparkException(
            "[CAST_INVALID_INPUT] The value 'connection reset, timed out' of the type \"STRING\" cannot be cast to "
            '"INT" because it is malformed. SQLSTATE: 22018'
        ),
        3,
        ["try_cast", "connection reset"],
    ),
    (
        PySparkException(
            "[ARITHMETIC_OVERFLOW] integer overflow. SQLSTATE: 22003\n== SQL (line 1, position 8) ==\nselect a + b"
        ),
        3,
        ["dataset file"],
    ),
    (PySparkException("[ARITHMETIC_OVERFLOW] overflow. SQLSTATE: 22003"), None, []),
    # The system.
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 75, ["disk is full"]),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), 75, ["disk is full"]),
    (worker("OSError: [Errno 28] No space left on device"), 75, ["disk is full"]),
    (PermissionError(errno.EACCES, "Permission denied", "/lake/x"), 4, ["no permission to read or write", "/lake/x"]),
    (
        worker("PermissionError: [Errno 13] Permission denied: '/lake/x'"),
        4,
        ["no permission to read or write", "/lake/x"],
    ),
    (OSError(errno.EROFS, os.strerror(errno.EROFS), "/lake/x"), 4, ["the file system is read-only", "/lake/x"]),
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 2, ["ulimit -n"]),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), None, []),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 75, ["at the moment"]),
    # Stores: permanent errors, then transient ones.
    (
        OSError("When testing for existence of bucket 'b': AWS Error ACCESS_DENIED during HeadBucket operation"),
        4,
        ["credentials"],
    ),
    (
        OSError(
            "Generic S3 error: Error performing PUT https://b.s3.amazonaws.com/x in 1s, after 10 retries, max_retries: "
            "10 - "
            "Server returned non-2xx status code: 403 Forbidden: <Code>InvalidAccessKeyId</Code>"
        ),
        4,
        ["credentials"],
    ),
    (
        OSError(
            'Generic S3 error: response error "<Code>NoSuchBucket</Code>", after 3 retries: HTTP status client error'
        ),
        4,
        ["bucket exists"],
    ),
    (
        OSError(
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 2s, after 10 retries - "
            "HTTP "
            "error: error sending request"
        ),
        4,
        ["credentials"],
    ),
    (
        OSError("AWS Error EXPIRED_TOKEN during GetObject operation: The provided token has expired."),
        4,
        ["credentials"],
    ),
    (
        OSError("Generic MicrosoftAzure error: status code: 403 Forbidden: AuthorizationPermissionMismatch"),
        4,
        ["credentials"],
    ),
    (
        OSError("Generic MicrosoftAzure error: 404: <Code>ContainerNotFound</Code> after 0 retries"),
        4,
        ["bucket exists"],
    ),
    (OSError('Generic GCS error: {"error":"invalid_grant","error_description":"Bad Request"}'), 4, ["credentials"]),
    (
        OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate."),
        75,
        ["at the moment"],
    ),
    (
        OSError("Generic S3 error: Server returned non-2xx status code: 503 Service Unavailable"),
        75,
        ["at the moment"],
    ),
    (
        OSError("AWS Error INTERNAL_FAILURE during PutObject: We encountered an internal error"),
        75,
        ["at the moment"],
    ),
    (OSError("Generic S3 error: <Code>InternalError</Code><Message>Please try again"), 75, ["at the moment"]),
    (OSError("Generic MicrosoftAzure error: 503: <Code>ServerBusy</Code>"), 75, ["at the moment"]),
    (
        JavaError(
            "java.net.ConnectException: Call From vm to nn:9000 failed on connection exception: Connection refused"
        ),
        75,
        ["at the moment", "nn:9000"],
    ),
    # Delta.
    (DeltaError("Kernel error: Unsupported: Unsupported minimum reader version 99"), 4, ["version 99"]),
    (DeltaError("Kernel error: Unsupported: Feature 'zorg' is not supported"), 4, ["'zorg'"]),
    (
        DeltaError(
            "Kernel error: Json error: Truncated record whilst reading null\n   0: <unknown>\n   1: start_thread"
        ),
        4,
        ["log of a table is damaged"],
    ),
    (CommitFailedError("Failed to commit transaction: 0"), 5, ["run again"]),
    (DeltaError("Generic error: something else"), None, []),
]


@pytest.mark.parametrize(("error", "code", "parts"), MEANINGS, ids=[str(number) for number in range(len(MEANINGS))])
def test_an_error_gets_its_exit_code_and_keeps_its_cause(error, code, parts):
    user_error = to_user_error(error)
    assert (None if user_error is None else user_error.exit_code) == code, user_error
    for part in parts:
        assert part in str(user_error)
    assert "\tat " not in str(user_error)
    assert "SQLSTATE" not in str(user_error)
    assert "\n" not in str(user_error)


def test_a_permanent_error_is_not_transient():
    assert is_transient(OSError("AWS Error SLOW_DOWN"))
    assert not is_transient(OSError("error sending request: 403 Forbidden"))
    assert not is_transient("[INTERNAL_ERROR] Connection refused")


def cause(action):
    with pytest.raises(Exception) as caught:  # noqa: PT011  the tests ask for its type
        action()
    return caught.value


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Faulty input files, one of each kind."""
    folder = tmp_path_factory.mktemp("my sources")
    (folder / "heads").mkdir()
    (folder / "heads" / "1.csv").write_text("a,b\n1,2\n")
    (folder / "heads" / "2.csv").write_text("a,b,c\n1,2,3\n")
    (folder / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)[:60])
    (folder / "text.parquet").write_bytes(b"no parquet at all")
    pq.write_table(pa.table({"at": pa.array([1], pa.timestamp("ns"))}), folder / "nanoseconds.parquet")
    (folder / "types").mkdir()
    pq.write_table(pa.table({"a": [1.5]}), folder / "types" / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), folder / "types" / "2.parquet")
    return folder


LIVE = [
    (
        "heads",
        "csv",
        {"enforceSchema": "false", "header": "true"},
        "a string, b string",
        InputError,
        ["heads/2.csv: Number of column in CSV header", "Header length: 3, schema size: 2"],
    ),
    ("cut.csv.gz", "csv", {}, "a string, b string", InputError, ["cut.csv.gz: Unexpected end of input stream"]),
    ("text.parquet", "parquet", {}, "a string", InputError, ["text.parquet: ", "is not a Parquet file"]),
    ("text.parquet", "parquet", {}, None, InputError, ["text.parquet: ", "is not a Parquet file"]),
    ("types", "parquet", {}, "a double", InputError, ["types/2.parquet: ", "column [a]", "double", "BINARY"]),
    ("nope.csv", "csv", {}, None, InputError, ["does not exist", "nope.csv"]),
    ("heads", "csv", {"encoding": "klingon"}, "a string", UsageError, ["encoding", "klingon"]),
    ("heads", "csv", {"header": "perhaps"}, None, UsageError, ["header flag can be true or false"]),
    ("heads", "csv", {"maxColumns": "many"}, "a string", UsageError, ["maxColumns should be an integer"]),
    ("heads", "csv", {}, "a strng", UsageError, ['Unsupported data type "STRNG"']),
    ("heads", "csv", {}, "a-b string", UsageError, ["The unquoted identifier a-b is invalid"]),
    ("heads", "csv", {}, "a string, A string", InputError, ["two columns", "`a`"]),
    ("heads", "klingon", {}, None, UsageError, ["connector", "klingon"]),
    ("heads", "avro", {}, None, UsageError, ["connector", "avro"]),
]


@pytest.mark.parametrize(("path", "form", "options", "schema", "kind", "parts"), LIVE)
def test_an_error_of_reading_names_source_file_and_cause(spark, sources, path, form, options, schema, kind, parts):
    def read():
        reader = spark.read.format(form).options(**options)
        (reader.schema(schema) if schema else reader).load(str(sources / path)).collect()

    error = source_error(cause(read), "log", "log/*")
    assert type(error) is kind
    assert str(error).startswith("source 'log' (log/*): ")
    for part in parts:
        assert part in str(error)
    assert "\tat " not in str(error)


def test_bugs_are_no_mistakes_of_the_source():
    assert source_error(PySparkException("[INTERNAL_ERROR] x"), "log", "log") is None
    assert source_error(KeyError("x"), "log", "log") is None
    error = InputError("is empty")
    assert source_error(error, "log", "log") is error


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("a.prce", "name `a`.`prce` cannot be resolved. Did you mean one of the following? [`a`.`price`]"),
        ("splitt(price, '/')", "Cannot resolve routine `splitt`"),
        ("split(array(price), '/')", 'requires the "STRING" type, however "array(price)" has the type "ARRAY<STRING>"'),
        ("price ==== 1", "Syntax error at or near '=='"),
        ("count(*) + price", "MISSING_GROUP_BY"),
    ],
)
def test_a_mistake_in_an_expression_names_the_table(spark, expression, part):
    error = sql_error(cause(lambda: spark.sql(f"SELECT {expression} FROM VALUES ('1') AS a(price)")), "table 'items'")
    assert isinstance(error, UsageError)
    assert str(error).startswith("dataset file, table 'items': [")
    assert part in str(error)
    assert "Project" not in str(error)


def test_a_value_or_a_store_is_no_mistake_of_an_expression():
    assert sql_error(ConnectionResetError("Connection reset"), "table 'items'").exit_code == RetryError.exit_code
    assert to_user_error(PySparkException("[DIVIDE_BY_ZERO] Division by zero.")).exit_code == QualityError.exit_code


def test_exceptions_that_are_handled_are_not_logged_with_their_trace(spark, capfd):
    silence_traces()
    cause(lambda: spark.sql("SELECT nope FROM VALUES ('1') AS a(price)"))
    cause(lambda: spark.range(1).select("nope"))
    assert "UNRESOLVED_COLUMN" not in capfd.readouterr().err
