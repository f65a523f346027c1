#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole test suite. Arguments go to ctest: launch/test.sh -L mpi
# --preset NAME as the first two arguments builds and tests another of CMake's presets than `cpu`.
. "$(dirname "$0")/common.sh"

preset=cpu
if [ "${1:-}" = --preset ]; then
    preset=${2:?"--preset needs a name"}
    shift 2
fi
launch/install_deps.sh --tests
say "building ($preset)"
launch/build.sh "$preset"
say "testing"
prepare_mpi
exec ctest --preset "$preset" --parallel "$(cores)" "$@"
