#!/usr/bin/env bash
# Trains on several machines by mpirun over ssh: one rank per GPU, or on CPUs as many ranks per host as asked for.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/cluster.sh --hosts FILE [--ranks-per-host N] [--program FILE] --config FILE [--section.key=value ...]
  --hosts FILE         one host a line, this machine first; `NAME slots=N` gives a host N ranks
  --ranks-per-host N   of hosts without slots=; default: as local.sh would start on this machine
  --program FILE       the trainer, at the same path on every host; default: build/bin/duologue beside this folder
Everything else goes to `duologue train`. launch/README.md says what must be the same on every host. Ctrl-C or SIGTERM:
the ranks save and end; the same command goes on from there.
TEXT
}

hosts_file=
ranks_per_host=
program=$root/$(build_folder cpu)/bin/duologue
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --hosts=* | --ranks-per-host=* | --program=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        --hosts) [ -n "${2:-}" ] && hosts_file=$(absolute "$2") && shift 2 || wrong "--hosts needs a file" ;;
        --ranks-per-host) ranks_per_host=${2:-} && shift 2 || wrong "--ranks-per-host needs a number" ;;
        --program) [ -n "${2:-}" ] && program=$(absolute "$2") && shift 2 || wrong "--program needs a file" ;;
        -h | --help) usage && exit 0 ;;
        *) options+=("$1") && shift ;;
    esac
done
[ ${#options[@]} -gt 0 ] || { usage >&2 && exit 2; }
[ -n "$hosts_file" ] || wrong "there is no --hosts FILE"
[ -r "$hosts_file" ] || wrong "cannot read the host file '$hosts_file'"
require_program "$program"
[ -n "$ranks_per_host" ] || ranks_per_host=$(ranks_of_this_machine "$program" 1)
[[ $ranks_per_host =~ ^[1-9][0-9]*$ ]] || wrong "--ranks-per-host is '$ranks_per_host', which is not a number of ranks"

# "NAME:RANKS" a line.
read_hosts() {
    awk -v ranks="$ranks_per_host" '
        { sub(/#.*/, "") }
        NF == 0 { next }
        NF > 2 || (NF == 2 && $2 !~ /^slots=[1-9][0-9]*$/) { print "line " NR ": " $0; exit 1 }
        { print $1 ":" (NF == 2 ? substr($2, 7) : ranks) }' "$hosts_file"
}
hosts=$(read_hosts) || wrong "'$hosts_file' has a line that is not NAME or NAME slots=N: $(tail -n 1 <<<"$hosts")"
[ -n "$hosts" ] || wrong "'$hosts_file' names no host"
ranks=$(awk -F: '{ sum += $NF } END { print sum }' <<<"$hosts")

# Rank 0 writes the checkpoints, and the watch in ranks.sh is on the machine of rank 0.
is_this_machine() {
    local name
    for name in localhost "$(hostname)" "$(hostname -s)" "$(hostname -f 2>/dev/null || true)" $(hostname -I); do
        [ "$1" != "$name" ] || return 0
    done
    return 1
}
first=$(head -n 1 <<<"$hosts")
is_this_machine "${first%:*}" || wrong "run it on ${first%:*}, the first host of '$hosts_file'; this is $(hostname)"

say "$(counted "$ranks" rank) on $(counted "$(wc -l <<<"$hosts")" host) ($(paste -sd ' ' <<<"$hosts")): $program train ${options[*]}"
export OMPI_MCA_orte_keep_fqdn_hostnames=1 # or ssh would be given node1 of node1.example.org
export OMPI_MCA_plm_rsh_agent=$root/launch/ssh_host.sh
cd "$started_in"
exec "$root/launch/ranks.sh" --host "$(paste -sd , <<<"$hosts")" -n "$ranks" --map-by slot --bind-to none \
    "$program" train "${options[@]}"
