#!/bin/sh
# Sets up .venv in this folder with the package and everything its lessons and tests need. `make` calls it when
# .venv is missing, or older than the lists of dependencies.  PYTHON=... chooses the interpreter.
set -eu
cd "$(dirname "$0")"
stop() { printf 'setup: %s\n  fix: %s\n' "$1" "$2" >&2; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
if [ -n "${PYTHON:-}" ]; then
    new_enough "$PYTHON" || stop "PYTHON=$PYTHON is not a Python 3.11 or newer" "name another, or leave PYTHON out"
else
    for PYTHON in python3 python3.12 python3.11 python3.13 python3.14 python; do new_enough "$PYTHON" && break; done
    new_enough "$PYTHON" || stop "no Python 3.11 or newer found" \
        "install one, or say where it is: make PYTHON=/path/to/python3.12 ..."
fi

case "$(uname)-${UV_TORCH_BACKEND:-}" in Linux-cpu) need=3 ;; Linux-*) need=7 ;; *) need=3 ;; esac
if [ -e .venv/.ready ] && [ "$(cat .venv/.ready)" != "$(pwd -P)" ]; then rm -rf .venv; fi   # a moved folder
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
if [ ! -e .venv/.ready ] && [ "$free" -lt "$need" ]; then
    stop "the environment needs $need GB of disk, $free GB are free here" \
        "free some, or on Linux take the CPU-only wheels (3 GB): UV_TORCH_BACKEND=cpu make ..."
fi

echo "setup: $("$PYTHON" --version), packages into .venv (the first time, some GB are downloaded)"
uv=.venv/bin/uv
if ! { .venv/bin/python -c '' && $uv --version; } >/dev/null 2>&1; then
    rm -rf .venv
    if "$PYTHON" -m venv .venv >/dev/null 2>&1; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
    else                                                # Debian without python3-venv: uv makes the environment
        rm -rf .venv
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -c constraints.txt --target .uv-boot uv \
            || stop "$PYTHON has neither venv nor pip" "install them, on Debian and Ubuntu: apt install python3-venv"
        uv=.uv-boot/bin/uv
        $uv venv --quiet --python "$PYTHON" .venv
    fi
fi
$uv pip install --python .venv/bin/python -c constraints.txt -e '.[dev,instructor,parity,site]'
pwd -P > .venv/.ready
echo "setup: done. Without make:  . .venv/bin/activate"
