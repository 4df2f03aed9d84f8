#!/bin/sh
# Prints the path of a Python interpreter that the project can use.
#
#   find_python.sh         the default python3 if it is 3.11 or later, else the newest found
#   find_python.sh 3.12    a Python of exactly this version
#   find_python.sh --all   every supported version found, one "X.Y path" a line
#
# It looks on PATH, under pyenv, and where get_newer_pythons.sh puts Pythons.
#
# Facts: `python3` may be too old; a pyenv shim exists for versions that it refuses to run; a
# Debian Python may lack venv. So every candidate is asked, by running it.
# Exit status 1, and one line on stderr, when there is none.
set -eu

newer=${OXLOOP_PYTHONS:-$(dirname "$0")/../.pythons}
versions="3.15 3.14 3.13 3.12 3.11"

# The real path and the version of a candidate, if it runs, is supported and can make a venv.
ask() {
    "$1" -c '
import os, sys
import ensurepip, venv
if (3, 11) <= sys.version_info[:2] and sys.implementation.name == "cpython":
    print("%d.%d %s" % (*sys.version_info[:2], os.path.realpath(sys.executable)))
' 2>/dev/null || true
}

candidates() {
    command -v "python$1" || true
    for folder in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*; do
        [ -x "$folder/bin/python$1" ] && echo "$folder/bin/python$1"
    done
    [ -x "$newer/usr/bin/python$1" ] && echo "$newer/usr/bin/python$1"
    return 0
}

find_version() {
    for candidate in $(candidates "$1"); do
        answer=$(ask "$candidate")
        if [ "${answer%% *}" = "$1" ]; then
            echo "${answer#* }"
            return 0
        fi
    done
    return 1
}

case "${1:-}" in
--all)
    for version in $versions; do
        path=$(find_version "$version") && echo "$version $path" || true
    done
    ;;
"")
    answer=$(ask python3)
    if [ -n "$answer" ]; then
        echo "${answer#* }"
        exit 0
    fi
    for version in $versions; do
        find_version "$version" && exit 0
    done
    echo "oxloop needs Python 3.11 or later with venv; python3 is $(python3 --version 2>&1 || true)" >&2
    exit 1
    ;;
*)
    find_version "$1" || {
        echo "Python $1 was not found (on PATH, under pyenv, by get_newer_pythons.sh)" >&2
        exit 1
    }
    ;;
esac
