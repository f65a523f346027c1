#!/usr/bin/env bash
# Trains on this one machine: a rank for each of its GPUs, or else all of its cores.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/local.sh [--ranks N] [--program FILE] --config FILE [--section.key=value ...]
  --ranks N        default: one per GPU; without GPUs one for every 8 cores, at least 2
  --program FILE   the trainer; default: build/bin/duologue beside this folder, which is built first
Everything else goes to `duologue train`. Ctrl-C or SIGTERM: the ranks save and end; the same command goes on from there.
TEXT
}

ranks=
program=
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --ranks=* | --program=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        --ranks) ranks=${2:-} && shift 2 || wrong "--ranks needs a number" ;;
        --program) [ -n "${2:-}" ] && program=$(absolute "$2") && shift 2 || wrong "--program needs a file" ;;
        -h | --help) usage && exit 0 ;;
        *) options+=("$1") && shift ;;
    esac
done
[ ${#options[@]} -gt 0 ] || { usage >&2 && exit 2; }
[[ $ranks =~ ^([1-9][0-9]*)?$ ]] || wrong "--ranks is '$ranks', which is not a number of ranks"

if [ -z "$program" ]; then
    launch/install_deps.sh
    launch/build.sh cpu duologue
    program=$root/$(build_folder cpu)/bin/duologue
fi
require_program "$program"
[ -n "$ranks" ] || ranks=$(ranks_of_this_machine "$program" 2)

say "$(counted "$ranks" rank) on this machine ($(counted "$(cores)" core), $(counted "$(gpus)" GPU)): $program train ${options[*]}"
cd "$started_in"
exec "$root/launch/ranks.sh" -n "$ranks" --bind-to none "$program" train "${options[@]}"
