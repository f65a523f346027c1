#!/usr/bin/env bash
# The batch script under a real Slurm on two hosts, which are namespaces: slurm_test.sh DUOLOGUE DUOLOGUE_PREPROCESS CASE
. "$(dirname "$0")/support.sh"
. "$(dirname "$0")/hosts.sh"
. "$(dirname "$0")/slurm_cluster.sh"

make_cluster() {
    local i
    hosts_up 2
    for i in 1 2; do cp -r "$folder/data" "$folder/local-$i/data"; done
    echo '{}' >"$folder/config.json"
    slurm_up
}

# submit NAME [sbatch options] [-- trainer options]: `id` is the job's number, $folder/NAME.log its output.
submit() {
    local name=$1 options sbatch=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do sbatch+=("$1") && shift; done
    mapfile -t options < <(job_options)
    id=$(on_host 1 sbatch --parsable --nodes=2 --ntasks-per-node=1 --chdir="$folder" --output="$folder/$name.log" \
        "${sbatch[@]}" "$repository/launch/slurm.sbatch" --program "$duologue" --config "$folder/config.json" \
        "${options[@]}" --output.path="$folder/$name" "${@:2}")
}

says() { grep -qE "$2" "$folder/$1.log"; }
has_trained() { grep -qs "step=$2 " "$folder/$1.log"; }
ends() { job_is "$1" COMPLETED || job_is "$1" FAILED || job_is "$1" CANCELLED || job_is "$1" TIMEOUT; }

undisturbed() {
    submit undisturbed
    wait_until 120 "the undisturbed job" ends "$id"
    expect "the undisturbed job is completed" job_is "$id" COMPLETED
}

# The batch script runs; its status is the trainer's; and what is cancelled stays away.
runs_and_ends_with_the_trainers_status() {
    make_cluster
    undisturbed
    expect "it has trained on two hosts" says undisturbed "2 ranks, cpu"
    expect "the model is there" [ -s "$folder/undisturbed/model/model.safetensors" ]

    submit wrong -- --model.heads=3
    wait_until 60 "the job with a wrong option" ends "$id"
    expect "exit status 2, not $(job_field "$id" ExitCode)" [ "$(job_field "$id" ExitCode)" = 2:0 ]
    expect "the message is in the job's output" says wrong "error: .*model.heads"

    steps=1000000 submit cancelled
    wait_until 60 "ten steps" has_trained cancelled 10
    on_host 1 scancel "$id"
    wait_until 60 "the end of the cancelled job" ends "$id"
    sleep 2
    expect "a cancelled job does not come back" job_is "$id" CANCELLED
    wait_until 10 "all processes to end" nothing_left
}

# fails WHAT STATUS TEXT COMMAND...: what the command does to a job on its way ends it with that status and that text.
fails() {
    steps=1000000 timeout_seconds=5 submit "$1"
    wait_until 60 "ten steps" has_trained "$1" 10
    "${@:4}"
    wait_until 60 "the end of the job" ends "$id"
    expect "$1: exit status $2, not $(job_field "$id" ExitCode)" [ "$(job_field "$id" ExitCode)" = "$2:0" ]
    expect "$1: it says $3" says "$1" "$3"
    wait_until 15 "$1: all processes to end" nothing_left
}

ends_when_a_rank_fails() {
    make_cluster
    local late="after step [0-9]+; late: rank 1 on ${host_names[1]}"
    fails frozen 6 "error: rank 0 .* $late" on_host 2 pkill -STOP -f "^$duologue train"
    fails killed 6 "error: rank 0 .* $late" on_host 2 pkill -KILL -f "^$duologue train"
    fails thrown 3 "error: .*train-.*\.h5.* damaged.*rank 1 of 2 on ${host_names[1]}" \
        truncate -s 5000 "$folder"/local-2/data/train-*.h5
}

# An urgent job takes both hosts; the first one saves, waits in the queue, goes on, and ends as if nothing had been.
saves_and_resumes_when_preempted() {
    make_cluster
    steps=600 # so many that Slurm decides while it trains
    undisturbed
    submit preempted
    wait_until 60 "ten steps" has_trained preempted 10
    local urgent
    urgent=$(on_host 1 sbatch --parsable --partition=urgent --nodes=2 --exclusive --chdir="$folder" --output="$folder/urgent.log" \
        --wrap 'sleep 2')
    wait_until 60 "the urgent job" ends "$urgent"
    expect "the urgent job has run" job_is "$urgent" COMPLETED
    wait_until 200 "the preempted job" ends "$id"
    expect "the preempted job is completed" job_is "$id" COMPLETED
    expect "it was started again" [ "$(job_field "$id" Restarts)" -eq 1 ]
    expect "it has saved" says preempted "stopped at step [0-9]+ and saved"
    expect "it has gone on" says preempted "going on from .*: step [0-9]+"
    expect "losses and parameters are those of the undisturbed job" same_training undisturbed preempted
}

# Without a time of grace Slurm ends the ranks with SIGTERM, leaves them KillWait, and puts the job back by itself.
saves_and_resumes_when_preempted_without_grace() { grace_seconds=0 && saves_and_resumes_when_preempted; }

# The same at the limit of time, a minute being the shortest that Slurm knows.
saves_and_resumes_at_the_time_limit() {
    make_cluster
    local last=$((SECONDS + 150))
    steps=1000000 submit limited --time=1 --signal=B:USR1@40
    wait_until 150 "the job to be started again" says limited "restart 1"
    expect "it has saved" says limited "stopped at step [0-9]+ and saved"
    wait_until $((last - SECONDS)) "the job to go on" says limited "going on from .*: step [0-9]+"
    on_host 1 scancel "$id"
    wait_until 60 "the end of the cancelled job" ends "$id"
    steps=$(($(latest_step limited) + 5))
    submit limited
    wait_until 60 "the rest" ends "$id"
    undisturbed
    expect "losses and parameters are those of an undisturbed job" same_training undisturbed limited
}

[ $# -eq 3 ] || fail "usage: slurm_test.sh DUOLOGUE DUOLOGUE_PREPROCESS CASE"
test_name="slurm_test.sh $3"
begin_test "$1" "$2"
"$3"
