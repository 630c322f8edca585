"""What a job's process needs: its arguments, Spark's options, the files that travel with it, the environment."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from recsys_spark.errors import UsageError
from recsys_spark.runtime.places import home, is_installed
from recsys_spark.start.java import java_variables
from recsys_spark.start.jobs import is_without_spark
from recsys_spark.start.package_zip import package_zip

_NEEDED = ["pyspark", "pandas", "pyarrow", "numpy", "scipy", "deltalake", "pydantic", "pydantic_settings", "rich"]

_IN_A_CHECKOUT = (
    "Install the requirements in setup.py, or unset SPARK_HOME, SPARK_PROFILE and RECSYS_PYTHON to have a .venv made"
)

ALWAYS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""No job may fetch from a hub behind the operator's back; the tokenizer's threads do not survive Spark's fork."""


@dataclass(frozen=True)
class Submission:
    """One run of a job: its words as the user gave them, taken apart."""

    script: Path
    """The job's script."""
    arguments: tuple[str, ...]
    """For the job."""
    options: tuple[str, ...]
    """For spark-submit, without ``--files`` and ``--py-files``."""
    files: tuple[str, ...]
    """The user's ``--files``, separated."""
    py_files: tuple[str, ...]
    """The user's ``--py-files``, as given."""
    profile: Path
    """Spark's properties file."""

    @property
    def name(self) -> str:
        return self.script.stem

    @property
    def wants_help(self) -> bool:
        return bool({"-h", "--help"} & set(self.arguments))

    @property
    def needs_spark(self) -> bool:
        return not self.wants_help and not is_without_spark(self.script)

    def setting(self, name: str, option: str) -> str:
        """The value that Spark will use: OPTION wins over ``--conf NAME=…``, which wins over the profile."""
        lines = self.profile.read_text(encoding="utf-8").splitlines()
        pattern = re.compile(rf"\s*{re.escape(name)}(?:\s*[=:]\s*|\s+)(\S.*)")
        stated = [line[1].strip() for line in map(pattern.fullmatch, lines) if line]
        stated += [word.partition(f"{name}=")[2] for word in self.options if re.match(f"(--conf=)?{name}=", word)]
        for word, after in pairwise((*self.options, "")):
            if word == option or word.startswith(f"{option}="):
                return after if word == option else word.partition("=")[2]
        return stated[-1] if stated else ""


def parse(script: Path, words: Sequence[str], environment: Mapping[str, str]) -> Submission:
    """Take apart what follows the job's name: arguments of the job, then ``--`` and options of spark-submit.

    spark-submit would let the user's lists of files replace those of this project, and the job would miss its own code.
    """
    cut = words.index("--") if "--" in words else len(words)
    arguments, given = words[:cut], list(words[cut + 1 :])
    lists: dict[str, list[str]] = {"--files": [], "--py-files": []}
    options = []
    while given:
        word = given.pop(0)
        key, separator, value = word.partition("=")
        if key in lists:
            lists[key].append(value if separator else given.pop(0) if given else "")
        else:
            options.append(word)
    files = [file for value in lists["--files"] for file in value.split(",")]
    return Submission(
        script, tuple(arguments), tuple(options), tuple(files), tuple(lists["--py-files"]), _profile(environment)
    )


def _profile(environment: Mapping[str, str]) -> Path:
    """The properties file of ``SPARK_PROFILE``: a name in ``conf/``, or the path of a file of the user's."""
    name = environment.get("SPARK_PROFILE") or "local"
    path = Path(name) if "/" in name else home() / "conf" / f"spark-{name}.conf"
    if path.is_file():
        return path.absolute()
    names = sorted(file.stem.removeprefix("spark-") for file in (home() / "conf").glob("spark-*.conf"))
    raise UsageError(
        f"there is no profile '{name}' (SPARK_PROFILE). Profiles: {' '.join(names)}, or the path of a file"
    )


def check(submission: Submission, environment: Mapping[str, str]) -> None:
    """Refuse what Spark would take, to complain about something else later.

    Raises:
        UsageError: a required package is missing, or the profile of a cluster has no master.
    """
    sys.path += pyspark_of(environment)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        remedy = "pip install recsys-spark brings them" if is_installed() else _IN_A_CHECKOUT
        raise UsageError(f"{sys.executable} lacks {', '.join(missing)}. {remedy}")
    site = environment.get("SPARK_CONF_DIR") or f"{environment.get('SPARK_HOME', '')}/conf"
    if submission.needs_spark and not submission.setting("spark.master", "--master"):
        if Path(site, "spark-defaults.conf").is_file():
            return
        raise UsageError(
            f"profile '{submission.profile.stem.removeprefix('spark-')}' needs to know the cluster: add -- --master "
            "spark://HOST:7077, yarn or k8s://https://HOST:PORT"
        )


def shipped_files(submission: Submission) -> list[str]:
    """The files that go to the working folders of driver and executors.

    The first file of a name wins, the user's before those of this project: Spark ships all of them into one folder.
    """
    conf = home() / "conf"
    named = [
        value
        for key, _, value in (argument.partition("=") for argument in submission.arguments)
        if key in ("--dataset", "--config", "--preset", "--rules_file") and value.endswith(".toml")
    ]
    own = [conf / f"{submission.name}.toml", *sorted((conf / "datasets").glob("*.toml"))]
    if submission.profile.name == "spark-gpu.conf":
        own.append(conf / "deploy" / "gpu_discovery.sh")
    wanted: dict[str, str] = {}
    for file in [*submission.files, *named, *map(str, own)]:
        if file and not (file.endswith(".toml") and not Path(file).is_file()):
            wanted.setdefault(file.rpartition("/")[2], file)
    return list(wanted.values())


def submit_options(submission: Submission, package: Path, environment: Mapping[str, str]) -> list[str]:
    """Options of spark-submit, before the job's script."""
    options = ["--properties-file", str(submission.profile), "--name", submission.name]
    options += ["--py-files", ",".join([str(package), *submission.py_files])]
    if files := shipped_files(submission):
        options += ["--files", ",".join(files)]
    if environment.get("SPARK_HOME"):
        # With a properties file Spark skips the site's spark-defaults.conf, and with it queues, event logs, Kerberos.
        options.append("--load-spark-defaults")
    return [*options, *submission.options]


def command_and_environment(submission: Submission, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs the job, and all of its environment.

    spark-submit would start a JVM before Python: it merges the job's standard error into standard output, hides the
    terminal from it, and a mistake in the configuration shows after seconds. So Python comes first, and PySpark starts
    that same spark-submit with these options when the job asks for a session. A driver within the cluster
    (``--deploy-mode cluster``) is started by spark-submit.
    """
    package = package_zip()
    script = [str(submission.script), *submission.arguments]
    wanted = dict(environment)
    wanted.pop("PYSPARK_DRIVER_PYTHON", None)  # Spark's find-spark-home needs it, and nothing else here
    if not submission.needs_spark:
        return [sys.executable, *script], wanted | _of_python(package, environment)
    options = submit_options(submission, package, environment)
    wanted |= java_variables(environment) | _spark_home(environment)
    if submission.setting("spark.submit.deployMode", "--deploy-mode") == "cluster":
        return [f"{wanted['SPARK_HOME']}/bin/spark-submit", *options, *script], wanted
    return [sys.executable, *script], wanted | _of_python(package, environment) | session_variables(
        submission, options, environment
    )


def session_variables(submission: Submission, options: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which PySpark starts the session, with these options of spark-submit."""
    logging = f"file:{str(home()).replace(' ', '%20')}/conf/log4j2.properties"
    variables = {
        "PYSPARK_SUBMIT_ARGS": shlex.join([*options, "pyspark-shell"]),
        # The variable and not spark.driver.extraJavaOptions, which belongs to the profile and to the user; theirs wins.
        "LOG4J_CONFIGURATION_FILE": environment.get("LOG4J_CONFIGURATION_FILE") or logging,
        "PYSPARK_PYTHON": environment.get("PYSPARK_PYTHON") or sys.executable,
    }
    if submission.setting("spark.master", "--master").startswith("local"):
        # Or Spark looks the host's name up, and warns when that is a loopback.
        variables["SPARK_LOCAL_IP"] = environment.get("SPARK_LOCAL_IP") or "127.0.0.1"
    return variables


def session_environment(submission: Submission, environment: Mapping[str, str]) -> dict[str, str]:
    """What this process has to set before a session starts in it, so that it is the one of the profile."""
    options = submit_options(submission, package_zip(), environment)
    offline = {name: environment.get(name) or value for name, value in ALWAYS.items()}
    java = java_variables(environment) | _spark_home(environment)
    return offline | java | session_variables(submission, options, environment)


def _of_python(package: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The package first on the path, so that driver and workers run the very same code; and the caller's folder not on
    it at all: Python workers would import from there before anything else, the code of another checkout for example.
    """
    given = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    path = [str(package), *(folder for folder in pyspark_of(environment) if folder not in given), *given]
    always = {name: environment.get(name) or value for name, value in ALWAYS.items()}
    # Python's hash of a string has to agree between driver and executors.
    return always | {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0"}


def pyspark_of(environment: Mapping[str, str]) -> list[str]:
    """PySpark of the installation ``SPARK_HOME``. One from pip keeps only zips there: it is found in site-packages."""
    python = Path(environment.get("SPARK_HOME") or "", "python")
    if not environment.get("SPARK_HOME") or not (python / "pyspark" / "__init__.py").is_file():
        return []
    return [str(python), *map(str, sorted((python / "lib").glob("py4j-*-src.zip")))]


def _spark_home(environment: Mapping[str, str]) -> dict[str, str]:
    """``SPARK_HOME``, so that Spark does not start a Python to find it."""
    if environment.get("SPARK_HOME"):
        return {}
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    return {"SPARK_HOME": str(Path(spec.origin).parent)}
