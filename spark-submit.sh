#!/usr/bin/env bash
# The only way in: ./spark-submit.sh JOB [--key=value ...] [-- SPARK-SUBMIT OPTIONS]
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
PROFILE=${SPARK_PROFILE:-local}
# shellcheck source=SCRIPTDIR/conf/environment.sh
source "$ROOT/conf/environment.sh"

main() {
    case ${1:-} in
        "") usage >&2; exit 2 ;;
        -h | --help) usage; exit ;;
    esac
    JOB=$1
    shift
    check_job
    check_profile
    split_arguments "$@"
    wants_help || is_without_spark || check_master

    GIVEN_PYTHON=${PYSPARK_PYTHON:-}
    # shellcheck disable=SC2046  (words on purpose: names of extras)
    recsys_python $(extras_of "$JOB")
    local folder
    folder=$(cache_folder) || exit
    PACKAGE=$(build_zip "$folder") || exit
    if wants_help; then run_job; fi

    if is_without_spark; then run_job; fi
    recsys_java
    collect_submit_options
    if [[ $(setting spark.submit.deployMode --deploy-mode) == cluster ]]; then submit_to_cluster; else run_here; fi
}

usage() {
    cat <<'END'
Usage: ./spark-submit.sh JOB [--key=value ...] [-- SPARK-SUBMIT OPTIONS]
       ./spark-submit.sh JOB --help        the keys of a job

Jobs:
END
    local file
    for file in "$ROOT"/jobs/*.py; do
        printf '  %-26s %s\n' "$(basename "$file" .py)" "$(first_docstring_line "$file")"
    done
    cat <<'END'

Variables (with any of the first three nothing is installed; otherwise a .venv is made on the first run):
  SPARK_HOME      a Spark installation to use instead of the one from PyPI
  SPARK_PROFILE   where to run: conf/spark-SPARK_PROFILE.conf (default: local)
  RECSYS_PYTHON   a Python that has the requirements in setup.py
  PYSPARK_PYTHON  the Python on the executors, if its path differs from the driver's; with the three above only
  RECSYS_TORCH    torch in the .venv: cpu (default), cuda, or a requirement such as torch==2.12.1

Exit codes: 0 done, 2 usage or configuration, 3 data-quality gate, 4 input missing or unreadable, 5 commit conflict,
75 try again, 1 a bug.
END
}

# What a job needs beyond the requirements of all.
extras_of() {
    case $1 in
        demo | render_report) printf report ;;
        fine_tune_encoder | search_hyperparameters) printf train ;;
        export_recommendations) printf 'redis postgres' ;;
        serve_recommendations) printf 'redis serve' ;;
        export_profiles) printf privacy ;;
    esac
    if dataset_has '^scrub *= *true'; then printf ' scrub'; fi
    if dataset_has 'format *= *"iceberg"'; then printf ' iceberg'; fi
    if dataset_has 'format *= *"postgres"'; then printf ' postgres'; fi
}

# Whether --dataset names a file with a line that matches.
dataset_has() {
    local argument file
    for argument in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
        case $argument in --dataset=*) file=${argument#*=} ;; *) continue ;; esac
        if [[ $file != *.toml ]]; then file=$ROOT/conf/datasets/$file.toml; fi
        if [[ -f $file ]] && grep -Eq "$1" "$file"; then return; fi
    done
    return 1
}

first_docstring_line() { sed -n '/^r*"""/{s/^r*"""//;/^ *$/n;s/""".*//;p;q;}' "$1"; }

# --- what was asked for ---

check_job() {
    if [[ $JOB =~ ^[a-z_]+$ && -f $ROOT/jobs/$JOB.py ]]; then return; fi
    local file names=() near
    for file in "$ROOT"/jobs/*.py; do names+=("$(basename "$file" .py)"); done
    near=$(python3 -I -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:]), sep=" or ")' \
        "$JOB" "${names[@]}" 2>/dev/null) || near=  # any Python will do, and none as well
    die 2 "there is no job '$JOB'.${near:+ Did you mean $near?} Jobs: ${names[*]}"
}

check_profile() {
    if [[ $PROFILE =~ ^[A-Za-z0-9_-]+$ && -f $ROOT/conf/spark-$PROFILE.conf ]]; then return; fi
    local file names=()
    for file in "$ROOT"/conf/spark-*.conf; do file=${file##*/spark-}; names+=("${file%.conf}"); done
    die 2 "there is no profile '$PROFILE' (SPARK_PROFILE). Profiles: ${names[*]}"
}

# Spark would take local[*] and then complain about something else.
check_master() {
    if [[ -n $(setting spark.master --master) || -f ${SPARK_CONF_DIR:-${SPARK_HOME:-}/conf}/spark-defaults.conf ]]; then return; fi
    die 2 "profile '$PROFILE' needs to know the cluster: add -- --master spark://HOST:7077, yarn or k8s://https://HOST:PORT"
}

# Sets ARGUMENTS (for the job), OPTIONS (for Spark), and FILES and PY_FILES: spark-submit would let the user's list
# replace ours, and the job would miss its own code.
split_arguments() {
    ARGUMENTS=() OPTIONS=() FILES=() PY_FILES=
    while (($#)) && [[ $1 != -- ]]; do ARGUMENTS+=("$1"); shift; done
    if (($#)); then shift; fi
    while (($#)); do
        case $1 in
            --files=*) add_files "${1#*=}" ;;
            --py-files=*) PY_FILES+=,${1#*=} ;;
            --files) add_files "${2:-}"; shift ;;
            --py-files) PY_FILES+=,${2:-}; shift ;;
            *) OPTIONS+=("$1") ;;
        esac
        if (($#)); then shift; fi
    done
    local argument file
    for argument in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
        case $argument in --dataset=*.toml | --config=*.toml) add_files "${argument#*=}" ;; esac
    done
    for file in "$ROOT/conf/$JOB.toml" "$ROOT"/conf/datasets/*.toml; do add_files "$file"; done
    if [[ $PROFILE == gpu ]]; then add_files "$ROOT/conf/deploy/gpu_discovery.sh"; fi
}

# The first file of a name wins, the user's before ours: Spark ships all of them into one folder.
add_files() {
    local file other list=()
    IFS=, read -r -a list <<<"$1"
    for file in ${list[@]+"${list[@]}"}; do
        if [[ $file == *.toml && ! -f $file ]]; then continue; fi
        for other in ${FILES[@]+"${FILES[@]}"}; do
            if [[ ${other##*/} == "${file##*/}" ]]; then continue 2; fi
        done
        FILES+=("$file")
    done
}

wants_help() {
    local argument
    for argument in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
        case $argument in -h | --help) return ;; esac
    done
    return 1
}

# These jobs need neither Java nor a cluster.
is_without_spark() {
    case $JOB in serve_recommendations | lake_status | restore_lake | clone_lake) return ;; esac
    return 1
}

# setting NAME OPTION : the value Spark will use: OPTION wins over --conf NAME=..., which wins over the profile.
setting() {
    local i option conf value=
    value=$(sed -n "s/^${1//./\\.}[ =]*//p" "$ROOT/conf/spark-$PROFILE.conf")
    conf=$value option=
    for ((i = 0; i < ${#OPTIONS[@]}; i++)); do
        case ${OPTIONS[i]} in
            "$2") option=${OPTIONS[i + 1]:-} ;;
            "$2"=*) option=${OPTIONS[i]#*=} ;;
            "$1"=* | --conf="$1"=*) conf=${OPTIONS[i]#*"$1"=} ;;
        esac
    done
    printf '%s' "${option:-$conf}"
}

# --- the package ---

cache_folder() {
    local folder=$ROOT/.venv
    if [[ ! -w $folder ]]; then
        folder=${TMPDIR:-/tmp}/recsys-spark-$UID
        (umask 077; mkdir -p "$folder")
        # Another user of the machine could have made it first and put code of theirs into it.
        [[ -O $folder && ! -L $folder ]] || die 2 "$folder belongs to somebody else; set TMPDIR to a folder of your own"
    fi
    printf '%s' "$folder"
}

# The name holds the hash of the contents: runs at the same time, of different states of the code, do not meet.
# Python cannot keep compiled modules beside a zip, so they are in it; another release of Python takes the sources.
build_zip() {
    PYTHONSAFEPATH=1 "$PYTHON" - "$ROOT" "$1" <<'END'
import sys

if sys.version_info < (3, 11):
    print(f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed", file=sys.stderr)
    sys.exit(2)

import hashlib
import os
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

NEEDED = "pyspark pandas pyarrow numpy scipy deltalake pydantic pydantic_settings rich".split()
if missing := [name for name in NEEDED if find_spec(name) is None]:
    print(f"error: {sys.executable} lacks {', '.join(missing)}. Install the requirements in setup.py,"
          " or unset SPARK_HOME, SPARK_PROFILE and RECSYS_PYTHON to have a .venv made", file=sys.stderr)
    sys.exit(2)

def compiled(names):
    from py_compile import PycInvalidationMode, compile

    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "module.pyc")
        for name in names:
            compile(root / name, target, name, True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
            yield f"{name}c", target.read_bytes()


root, cache = map(Path, sys.argv[1:])
files = sorted(f for f in root.glob("recsys_spark/**/*") if f.is_file() and f.suffix not in (".pyc", ".md")
               and not any(part.startswith(".") for part in f.relative_to(root).parts))
members = [(f.relative_to(root).as_posix(), f.read_bytes()) for f in files]
digest = hashlib.sha256(repr([sys.implementation.cache_tag, members]).encode()).hexdigest()[:16]
target = cache / f"recsys_spark-{digest}.zip"
if target.exists():
    os.utime(target)
else:
    draft = cache / f"recsys_spark-{digest}.{os.getpid()}"
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in [*members, *compiled(name for name, _ in members if name.endswith(".py"))]:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            package.writestr(info, content, zipfile.ZIP_DEFLATED)
    draft.rename(target)
for old in cache.glob("recsys_spark-*"):
    if old.stat().st_mtime < time.time() - 30 * 86400:  # no run takes a month
        old.unlink(missing_ok=True)
print(target)
END
}

# --- start ---

collect_submit_options() {
    local files
    files=$(IFS=,; printf '%s' "${FILES[*]-}")
    SUBMIT=(--properties-file "$ROOT/conf/spark-$PROFILE.conf" --name "$JOB" --py-files "$PACKAGE$PY_FILES")
    if [[ -n $files ]]; then SUBMIT+=(--files "$files"); fi
    # With a properties file Spark skips the site's own spark-defaults.conf, and with it queues, event logs and Kerberos.
    if [[ -n ${SPARK_HOME:-} ]]; then SUBMIT+=(--load-spark-defaults); fi
    SUBMIT+=(${OPTIONS[@]+"${OPTIONS[@]}"})
}

# spark-submit would start a JVM before Python: it merges the job's standard error into standard output, hides the terminal
# from it, and a mistake in the configuration shows after seconds. So Python comes first, and PySpark starts that same
# spark-submit with these options when the job asks for a session.
run_here() {
    local word line="" quote="'\"'\"'"
    for word in "${SUBMIT[@]}" pyspark-shell; do line+="'${word//"'"/$quote}' "; done
    export PYSPARK_SUBMIT_ARGS=$line  # PySpark takes it apart with shlex
    # The variable and not spark.driver.extraJavaOptions, which belongs to the profile and to the user; theirs wins.
    export LOG4J_CONFIGURATION_FILE=${LOG4J_CONFIGURATION_FILE:-file:${ROOT// /%20}/conf/log4j2.properties}
    if [[ $(setting spark.master --master) == local* ]]; then
        export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}  # or Spark looks the host's name up, and warns when that is a loopback
    fi
    run_job
}

run_job() {
    # First on the path, so that driver and workers run the very same code; and the caller's folder not on it at all:
    # Python workers would import from there before anything else, the code of another checkout for example.
    export PYTHONPATH=$PACKAGE${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
    exec "$PYTHON" "$ROOT/jobs/$JOB.py" ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}
}

submit_to_cluster() {
    SPARK_HOME=${SPARK_HOME:-$("$PYTHON" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')}
    export SPARK_HOME
    # The paths found above are this machine's. Only one that the user named is meant for the cluster.
    unset PYSPARK_DRIVER_PYTHON PYSPARK_PYTHON
    if [[ -n $GIVEN_PYTHON ]]; then export PYSPARK_PYTHON=$GIVEN_PYTHON; fi
    exec "$SPARK_HOME/bin/spark-submit" "${SUBMIT[@]}" "$ROOT/jobs/$JOB.py" ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}
}

main "$@"
