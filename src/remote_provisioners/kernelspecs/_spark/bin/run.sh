#!/bin/sh
# Starts main.py of this kernelspec on the driver's Python, with the arguments as they are.
# Nothing is evaluated here: submit.py reads the variables of the kernelspec.
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
python=${PYSPARK_DRIVER_PYTHON:-${PYSPARK_PYTHON:-python3}}
if ! command -v -- "$python" >/dev/null 2>&1; then
    echo "PYSPARK_PYTHON: there is no $python on this host to start the kernel with" >&2
    exit 127
fi
exec "$python" "$here/scripts/main.py" "$@"
