#!/bin/sh
# slim.sh FOLDER: takes out of a virtual environment what no service runs: symbols for debuggers,
# the packages' own tests, the sources of what is compiled already, type stubs.
set -eu
find "$1" -name '*.so' -exec strip --strip-unneeded {} +
find "$1" -type d \( -name SelfTest -o -name tests -o -name testing \) -prune -exec rm -r {} +
find "$1" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.cpp' \
    -o -name '*.h' -o -name '*.hpp' \) -delete
