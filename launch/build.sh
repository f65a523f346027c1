#!/usr/bin/env bash
# Configures and builds one of CMake's presets: launch/build.sh [PRESET [target ...]], by default everything of `cpu`.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<TEXT
usage: launch/build.sh [PRESET [TARGET ...]]
  PRESET   one of: $(presets | paste -sd ' ') (default: cpu, in build/; the others are in build-PRESET/)
  TARGET   what to build, for example duologue; default: everything
TEXT
}

case ${1:-} in
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && wrong "'$1' is no option" ;;
esac
preset=${1:-cpu}
require_preset "$preset"
[ $# -eq 0 ] || shift
cmake --preset "$preset" --log-level=WARNING >/dev/null
arguments=()
[ $# -eq 0 ] || arguments=(--target "$@")
cmake --build --preset "$preset" -j "$(cores)" "${arguments[@]}"
