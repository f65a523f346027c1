#!/usr/bin/env bash
# Configures and builds one of CMake's presets: launch/build.sh [PRESET [target ...]], by default everything of `cpu`.
. "$(dirname "$0")/common.sh"

preset=${1:-cpu}
[ $# -eq 0 ] || shift
cmake --preset "$preset" --log-level=WARNING >/dev/null
arguments=()
[ $# -eq 0 ] || arguments=(--target "$@")
cmake --build --preset "$preset" -j "$(cores)" "${arguments[@]}"
