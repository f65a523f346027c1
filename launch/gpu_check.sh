#!/usr/bin/env bash
# Checks and measures everything that needs a GPU, from a build of the preset cuda or from an unpacked bundle of it.
. "$(dirname "$0")/common.sh"

command -v python3 >/dev/null || die "python3 (3.9 or newer, its standard library is enough) is missing"
cd "$started_in"
exec python3 -B "$root/tests/gpu/gpu_check.py" "$@"
