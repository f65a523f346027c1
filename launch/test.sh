#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole test suite. Arguments go to ctest: launch/test.sh -L mpi
. "$(dirname "$0")/common.sh"

usage() {
    cat <<TEXT
usage: launch/test.sh [--preset NAME] [CTEST_ARGUMENT ...]
  --preset NAME    first of all: builds and tests another preset than cpu, one of: $(presets | paste -sd ' ')
Everything else goes to ctest: -L LABEL runs the tests of a label (unit, mpi, end_to_end ...), -R NAME those whose names
match, -N only lists them, when they are built.
TEXT
}

preset=cpu
case ${1:-} in
    -h | --help) usage && exit 0 ;;
    --preset) [ -n "${2:-}" ] && preset=$2 && shift 2 || wrong "--preset needs a name" ;;
esac
require_preset "$preset"
launch/install_deps.sh --tests
say "building ($preset)"
launch/build.sh "$preset"
say "testing"
prepare_mpi
exec ctest --preset "$preset" --parallel "$(cores)" "$@"
