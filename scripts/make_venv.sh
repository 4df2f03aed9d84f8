#!/bin/sh
# Makes a virtual environment and installs requirements into it; does nothing if it is up to date.
#
#   make_venv.sh PYTHON VENV REQUIREMENTS_FILE...
#
# The environment remembers its interpreter and a copy of each file that was installed.
set -eu

python=$("$1" -c 'import os, sys; print(os.path.realpath(sys.executable))')
venv=$2
shift 2

installed="$venv/installed"
if ! [ -x "$venv/bin/python" ] || [ "$(cat "$installed/python" 2>/dev/null)" != "$python" ]; then
    echo "making $venv with $python" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    mkdir -p "$installed"
    echo "$python" > "$installed/python"
fi
for file in "$@"; do
    copy="$installed/$(basename "$file")"
    if ! cmp -s "$file" "$copy"; then
        echo "installing $file into $venv" >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$file"
        cp "$file" "$copy"
    fi
done
