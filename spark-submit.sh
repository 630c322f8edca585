#!/usr/bin/env bash
# The way in from a checkout: ./spark-submit.sh JOB [--key=value ...] [-- SPARK-SUBMIT OPTIONS]
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=SCRIPTDIR/conf/environment.sh
source "$ROOT/conf/environment.sh"

main() {
    case ${1:-} in
        "") usage >&2; exit 2 ;;
        -h | --help) usage; exit ;;
    esac
    check_job "$1"
    local given=
    if installs_nothing; then given=${PYSPARK_PYTHON:-}; fi
    # shellcheck disable=SC2046  (words on purpose: names of extras)
    recsys_python $(extras_of "$@")
    if needs_java "$@"; then recsys_java; fi
    # The paths found above are this machine's. One that the user named is meant for the executors.
    unset PYSPARK_DRIVER_PYTHON PYSPARK_PYTHON PYSPARK_GATEWAY_PORT PYSPARK_GATEWAY_SECRET
    if [[ -n $given ]]; then export PYSPARK_PYTHON=$given; fi
    # All the rest is the same as for an installed package (recsys_spark/start). The caller's folder is not on the path: it
    # may hold the code of another checkout.
    PYTHONSAFEPATH=1 exec "$PYTHON" -c '
import sys

if sys.version_info < (3, 11):
    print(f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed", file=sys.stderr)
    sys.exit(2)
sys.path.insert(0, sys.argv.pop(1))
from recsys_spark.start.command import main

main()' "$ROOT" "$@"
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
  SPARK_PROFILE   where to run: conf/spark-SPARK_PROFILE.conf (default: local), or the path of a properties file
  RECSYS_PYTHON   a Python that has the requirements in setup.py
  PYSPARK_PYTHON  the Python on the executors, if its path differs from the driver's; with the three above only
  RECSYS_TORCH    torch in the .venv: cpu (default), cuda, or a requirement such as torch==2.12.1

Exit codes: 0 done, 2 usage or configuration, 3 data-quality gate, 4 input missing or unreadable, 5 commit conflict,
75 try again, 143 stopped by SIGTERM, 1 a bug.
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
    if dataset_has '^scrub *= *true' "$@"; then printf ' scrub'; fi
    if dataset_has 'format *= *"iceberg"' "$@"; then printf ' iceberg'; fi
    if dataset_has 'format *= *"postgres"' "$@"; then printf ' postgres'; fi
}

# dataset_has PATTERN ARGUMENT... : whether --dataset names a file with a line that matches.
dataset_has() {
    local argument file
    for argument in "$@"; do
        case $argument in --dataset=*) file=${argument#*=} ;; *) continue ;; esac
        if [[ $file != *.toml ]]; then file=$ROOT/conf/datasets/$file.toml; fi
        if [[ -f $file ]] && grep -Eq "$1" "$file"; then return; fi
    done
    return 1
}

first_docstring_line() { sed -n '/^r*"""/{s/^r*"""//;/^ *$/n;s/""".*//;p;q;}' "$1"; }

# --- what was asked for ---

check_job() {
    if [[ $1 =~ ^[a-z_]+$ && -f $ROOT/jobs/$1.py ]]; then return; fi
    local file names=() near
    for file in "$ROOT"/jobs/*.py; do names+=("$(basename "$file" .py)"); done
    near=$(python3 -I -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:]), sep=" or ")' \
        "$1" "${names[@]}" 2>/dev/null) || near=  # any Python will do, and none as well
    die 2 "there is no job '$1'.${near:+ Did you mean $near?} Jobs: ${names[*]}"
}

needs_java() {
    local argument
    if grep -q 'without_spark=True' "$ROOT/jobs/$1.py"; then return 1; fi
    for argument in "$@"; do
        case $argument in -h | --help) return 1 ;; --) return ;; esac
    done
}

main "$@"
