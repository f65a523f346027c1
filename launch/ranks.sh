#!/usr/bin/env bash
# mpirun for long runs: SIGTERM and SIGINT (Ctrl-C) let the ranks save and end with 0. usage: launch/ranks.sh MPIRUN_ARGUMENTS...
# mpirun itself answers these signals by killing the ranks a second later and ending with 1. The trainer takes SIGUSR1 as
# the same request, from any of its ranks; those on this machine are asked, because mpirun would write a line about every
# signal that it forwards. A session of its own keeps the terminal's Ctrl-C from mpirun.
here=$PWD
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/ranks.sh MPIRUN_ARGUMENT... PROGRAM [ARGUMENT ...]
for example: launch/ranks.sh -n 2 build/bin/duologue train --config configs/demo.json --data.path=DIR --output.path=OUT
Runs mpirun so that Ctrl-C and SIGTERM let the ranks save and end with 0. `man mpirun` lists its arguments; launch/local.sh
chooses them for this machine.
TEXT
}

case ${1:-} in
    -h | --help) usage && exit 0 ;;
    "") usage >&2 && exit 2 ;;
esac
cd "$here"
prepare_mpi

# A rank, and not the ssh by which another host is reached, nor what mpirun has just forked.
ranks_here() { ps --ppid "$job" -o pid=,comm= | awk '$2 !~ /^(ssh|bash|ssh_host\.sh|mpirun)$/ { print $1 }'; }

# Before there are ranks, nothing is lost where mpirun just ends.
ask_to_save() {
    local ranks
    again=yes
    mapfile -t ranks < <(ranks_here)
    [ "${#ranks[@]}" -gt 0 ] || ranks=("$job")
    kill -USR1 "${ranks[@]}" 2>/dev/null || true
}

# Where another host has lost its network, mpirun waits for its daemon there as long as TCP repeats. Rank 0 is the last
# to end and is on this machine: when no rank is left here, mpirun has five seconds.
end_with_ranks() {
    local seen=no since=$SECONDS
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.5
        if [ -n "$(ranks_here)" ]; then
            seen=yes since=$SECONDS
        elif [ "$seen" = yes ] && [ $((SECONDS - since)) -gt 5 ]; then
            echo "ranks.sh: all ranks here have ended, but a host cannot be reached: ending mpirun" >&2
            pkill -KILL -P "$job" || true
            kill -KILL "$job"
            return 6 # what the trainer ends with when communication fails
        fi
    done
}

# Whether somebody types at the terminal that these scripts read, and not to what runs there while they are in the
# background.
in_foreground() { [ -t 0 ] && [ "$(ps -o tpgid= -p $$)" -eq "$(ps -o pgid= -p $$)" ]; }

# mpirun reads a terminal only in whose foreground it is, which it is not in a session of its own: cat reads for it. What is
# typed before the chat begins is read too, and dropped by the trainer. Sent to the background, cat ends instead of being
# stopped, and with it the chat.
relay=
if in_foreground; then
    export DUOLOGUE_INPUT=typed # there is a person to be asked
    exec 3<&0 < <(trap '' INT TTIN && exec cat <&3 2>/dev/null)
    relay=$!
    exec 3<&-
elif [ -t 0 ]; then
    exec </dev/null
fi

setsid mpirun "$@" <&0 &
job=$!
# Ctrl-C reaches the whole process group; the watch ends with the job and not with the request to stop it.
(trap '' INT && end_with_ranks) </dev/null >/dev/null &
watch=$!
again=no
trap ask_to_save TERM INT
trap 'again=yes; kill -TERM "$job" 2>/dev/null || true' HUP # nobody is left to read what the job says

# Sets `status` to the exit status of process $1: a signal ends the wait, not what is waited for.
wait_for() {
    while :; do
        again=no
        status=0
        wait "$1" 2>/dev/null || status=$?
        [ "$again" = yes ] || return 0
    done
}

wait_for "$job"
ended_with=$status
[ -z "$relay" ] || kill "$relay" 2>/dev/null || true
wait_for "$watch"
[ "$status" -eq 0 ] || exit "$status"
exit "$ended_with"
