#!/usr/bin/env bash
# How cluster.sh lets mpirun reach a host: ssh with a heartbeat, so that a host cut off from the network ends its part.
# mpirun calls it as it would ssh: ssh_host.sh [ssh options] HOST COMMAND
set -euo pipefail

# Runs on the host: mpirun's daemon, and beside it a watch over the heartbeat. Without the network mpirun cannot end its
# daemon, and the daemon does not notice. Its ranks end by distributed.timeout_seconds; when they have, it is ended.
on_host='
watch() {
    while read -r -t 10; do :; done
    daemon=$(pgrep -P $$ -x orted) || exit 0
    while pgrep -P "$daemon" >/dev/null; do sleep 0.5; done
    sleep 2 # for the messages on their way, where it was a slow network
    kill -KILL "$daemon"
}
exec 3<&0 </dev/null
watch <&3 &
eval "$1"
status=$?
kill "$!" 2>/dev/null
exit "$status"'

case ${1:---help} in
    -h | --help) echo "usage: ssh_host.sh [SSH_OPTION ...] HOST COMMAND; cluster.sh has mpirun call it" && exit 0 ;;
esac
options=(-o ServerAliveInterval=15 -o ServerAliveCountMax=4)
while [[ ${1:-} == -* ]]; do
    case $1 in
        -[BbcDEeFIiJLlmOopQRSWw]) options+=("$1" "$2") && shift 2 ;; # these have an argument
        *) options+=("$1") && shift ;;
    esac
done
host=$1
shift
exec ssh "${options[@]}" "$host" "bash -c $(printf %q "$on_host") ssh_host.sh $(printf %q "$*")" \
    < <(while echo 2>/dev/null; do sleep 1; done)
