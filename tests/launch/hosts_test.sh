#!/usr/bin/env bash
# Jobs on several hosts, which are namespaces: hosts_test.sh DUOLOGUE DUOLOGUE_PREPROCESS CASE [ARGUMENT ...]
. "$(dirname "$0")/support.sh"
. "$(dirname "$0")/hosts.sh"

# Every host has program and data in a folder of its own, as on machines without a shared disk; $folder is the shared one.
make_hosts() {
    local i
    hosts_up "$1"
    for ((i = 1; i <= $1; ++i)); do
        cp -r "$folder/data" "$folder/local-$i/data"
        cp "$duologue" "$folder/local-$i/duologue"
    done
    printf '%s\n' "${host_names[@]}" >"$folder/hosts"
    echo '{}' >"$folder/config.json"
    export OMPI_MCA_plm_rsh_args="-F $folder/ssh/config"
}

# start NAME RANKS_PER_HOST [options]: a job on all hosts, in the background, with its output in NAME.log.
start() {
    mapfile -t options < <(job_options)
    start_on_host 1 "$folder/$1.log" "$repository/launch/cluster.sh" --hosts "$folder/hosts" --ranks-per-host "$2" \
        --program "$folder/local/duologue" --config "$folder/config.json" "${options[@]}" --output.path="$folder/$1" "${@:3}"
}

has_trained() { grep -qs "step=$2 " "$folder/$1.log"; }
says() { grep -qE "$2" "$folder/$1.log"; }

# As many ranks on one host, undisturbed, give the same; and so does a job that was asked to stop, and went on.
trains_and_resumes() {
    make_hosts "$1"
    mapfile -t options < <(job_options)
    start_on_host 1 "$folder/one.log" "$repository/launch/local.sh" --ranks "$(($1 * $2))" \
        --program "$folder/local/duologue" --config "$folder/config.json" "${options[@]}" --output.path="$folder/one"
    end_of_job
    expect "the job on one host ends with 0, not $status" [ "$status" -eq 0 ]

    start several "$2"
    wait_until 60 "ten steps" has_trained several 10
    signal_job TERM
    end_of_job
    expect "the stopped job ends with 0, not $status" [ "$status" -eq 0 ]
    expect "it has stopped on the way" says several "stopped at step [0-9]+ and saved"
    expect "mpirun writes nothing about the signal" [ "$(grep -c "Forwarding signal" "$folder/several.log")" -eq 0 ]
    start several "$2"
    end_of_job
    expect "the job that goes on ends with 0, not $status" [ "$status" -eq 0 ]
    expect "it has gone on" says several "going on from .*: step [0-9]+"
    expect "losses and parameters are those of one host" same_training one several
    wait_until 5 "all processes to end" nothing_left
}

# refuses WHAT STATUS TEXT: the job on two hosts ends with that before the first step, naming the second host.
refuses() {
    local began=$SECONDS
    start refused 1
    end_of_job
    expect "$1: exit status $2, not $status" [ "$status" -eq "$2" ]
    expect "$1: the message says $3 and names ${host_names[1]}" says refused "$3.*${host_names[1]}"
    expect "$1: no step was taken" [ ! -e "$folder/refused/metrics.jsonl" ]
    expect "$1: it ends soon" [ $((SECONDS - began)) -lt 30 ]
    wait_until 5 "$1: all processes to end" nothing_left
}

give_second_host() { rm -r "$folder/local-2/data" && cp -r "$folder/$1" "$folder/local-2/data"; }

refuses_a_host_that_differs() {
    make_hosts 2
    rm "$folder"/local-2/data/train-*0.h5
    refuses "a missing shard" 4 "error: .*train-.*0\.h5"

    write_data words --seed 2
    give_second_host words
    refuses "another vocabulary" 3 "error: the vocabulary's hash is"

    "$preprocess" "$folder/data.jsonl" --output "$folder/shards" --shard-tokens 8192 >"$folder/preprocess.log" 2>&1
    give_second_host shards
    refuses "other shards" 3 "error: the data's checksum is"

    give_second_host data
    echo "another build" >>"$folder/local-2/duologue"
    refuses "another program" 2 "error: the program is"
}

# fails_in_time HOW TIMEOUT STATUS TEXT: what `HOW` does to a job ends it within so many seconds, on every host, with that
# status and that line, the only one of the ranks.
fails_in_time() {
    local began milliseconds last lines
    timeout_seconds=$2 steps=1000000 start broken 2
    wait_until 60 "thirty steps" has_trained broken 30
    began=$(date +%s%3N)
    "$1"
    end_of_job
    milliseconds=$(($(date +%s%3N) - began))
    wait_until 30 "$1: all processes to end" nothing_left
    last=$(($(date +%s%3N) - began))
    lines=$(grep -cE "error: |the job is being ended" "$folder/broken.log") || true
    echo "$1: timeout $2 s: ended with $status after $milliseconds ms, the last process after $last ms, $lines line(s)"
    expect "$1: exit status $3, not $status" [ "$status" -eq "$3" ]
    expect "$1: a line says $4" says broken "$4"
    expect "$1: it is one line, not $lines" [ "$lines" -eq 1 ]
    expect "$1: nothing is left after distributed.timeout_seconds" [ "$last" -le $(($2 * 1000)) ]
}

# goes_on: the checkpoint of the broken job is good.
goes_on() {
    local step
    step=$(latest_step broken)
    steps=$((step + 5)) start broken 2
    end_of_job
    expect "the job that goes on ends with 0, not $status" [ "$status" -eq 0 ]
    expect "it goes on from step $step" says broken "going on from .*: step $step,"
}

rank_on_host() { host_processes "$1" "^$folder/local/duologue train" | head -n 1; }
kills_a_rank() { kill -KILL "$(rank_on_host 2)"; }
freezes_a_rank() { kill -STOP "$(rank_on_host 2)"; }
damages_a_shard() { for shard in "$folder"/local-2/data/train-*.h5; do truncate -s 5000 "$shard"; done; }
cuts_the_second_host() { cut_host 2; }
cuts_the_first_host() { cut_host 1; }

# Short by default; run_all.sh measures the trainer's own default.
timeout=${DUOLOGUE_FAULT_SECONDS:-20}
waits="rank [0-3] on host[12]-[0-9]+ waited [0-9.]+ s in [a-z' ]*"
ends_when_a_rank() {
    make_hosts 2
    case $1 in
        dies)
            fails_in_time kills_a_rank "$timeout" 137 "warning: the job is being ended; $waits after step [0-9]+$"
            expect "mpirun names rank and host" says broken "process rank 2 .* on node ${host_names[1]} exited on signal 9"
            ;;
        freezes) fails_in_time freezes_a_rank "$timeout" 6 "error: $waits after step [0-9]+; late: rank 2 on ${host_names[1]};" ;;
        throws)
            fails_in_time damages_a_shard "$timeout" 3 "error: .*train-.*\.h5.* damaged.*\(rank [23] of 4 on ${host_names[1]}"
            give_second_host data
            ;;
    esac
    goes_on
}

ends_when_a_host_is_cut_off() {
    make_hosts 2
    fails_in_time "cuts_the_$1_host" "$timeout" 6 "error: $waits after step [0-9]+; late: rank 2 on ${host_names[1]}"
    join_host 1
    join_host 2
    wait_until 20 "the hosts to reach each other" on_host 1 bash -c ": 2>/dev/null </dev/tcp/${host_names[1]}/22"
    goes_on
}

[ $# -ge 3 ] || fail "usage: hosts_test.sh DUOLOGUE DUOLOGUE_PREPROCESS CASE [ARGUMENT ...]"
test_name="hosts_test.sh ${*:3}"
begin_test "$1" "$2"
"${@:3}"
