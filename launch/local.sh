#!/usr/bin/env bash
# Trains on all cores of this one machine: picks how many ranks and how many threads each.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/local.sh [--ranks N] --config FILE [--section.key=value ...]
Everything but --ranks goes to `duologue train`. Without --ranks: a rank for every 8 cores, at least 2.
TEXT
}

ranks=
if [ "${1:-}" = --ranks ]; then
    ranks=${2:?"--ranks needs a number"}
    shift 2
fi
[ $# -gt 0 ] || {
    usage >&2
    exit 2
}

cores=$(cores)
if [ -z "$ranks" ]; then
    ranks=$(((cores + 7) / 8))
    [ "$ranks" -ge 2 ] || ranks=$((cores < 2 ? 1 : 2))
fi
threads=$((cores / ranks))
[ "$threads" -ge 1 ] || threads=1

launch/install_deps.sh
launch/build.sh cpu duologue
prepare_mpi
say "$ranks ranks of $threads threads on $cores cores"
exec mpirun -n "$ranks" --bind-to none "$(build_folder cpu)/bin/duologue" train --device.threads="$threads" "$@"
