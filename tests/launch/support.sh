# What the tests of the launch scripts share: a folder that goes at the end, checks, a tiny job. Sourced, not run.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
test_name="$(basename "$0") ${1:-}"

fail() {
    printf '%s: %s\n' "$test_name" "$*" >&2
    exit 1
}

# need PROGRAM PACKAGE: fails where a program is not there, saying what to install.
need() {
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null ||
        fail "$1 is not here: install $2 (launch/install_deps.sh --tests)"
}

# wait_until SECONDS WHAT COMMAND...: until the command succeeds; fails when it does not within the time.
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "waited too long for $what"
        sleep 0.1
    done
}

# expect WHAT COMMAND...: the command succeeds.
expect() {
    local what=$1
    shift
    "$@" || fail "this does not hold: $what"
}

# begin_test DUOLOGUE DUOLOGUE_PREPROCESS: $folder, and in it a corpus in $folder/data. Not in /tmp, which every host has
# for itself.
begin_test() {
    duologue=$(realpath "$1")
    preprocess=$(realpath "$2")
    folder=$(mktemp -d -p /var/tmp duologue-test.XXXXXX)
    trap end_test EXIT
    trap 'exit 1' INT TERM HUP
    write_data data --seed 1
}

end_test() {
    local status=$?
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        for log in "$folder"/*.log; do [ ! -f "$log" ] || { echo "--- $log" && tail -n 40 "$log"; } >&2; done
    fi
    hosts_down
    rm -rf "$folder"
    exit "$status"
}

# write_data NAME [options of the corpus]: several shards, so that later ones are opened while it trains.
write_data() {
    "$preprocess" demo --output "$folder/$1.jsonl" --conversations 300 "${@:2}" >"$folder/preprocess.log" 2>&1
    "$preprocess" "$folder/$1.jsonl" --output "$folder/$1" --shard-tokens 4096 >>"$folder/preprocess.log" 2>&1
}

# The options of a job of a few seconds. Every host has the data and the program for itself.
job_options() {
    printf '%s\n' --data.path="$folder/local/data" --data.micro_batch_tokens=256 --data.window_shards=1 \
        --model.width=32 --model.heads=2 --model.hidden=64 --model.encoder_layers=1 --model.decoder_layers=1 \
        --train.precision=f32 --train.steps="${steps:-300}" --train.warmup_steps=50 --train.learning_rate=0.003 \
        --train.micro_batches_per_step=8 --train.validation_interval_steps=40 --train.log_interval_steps=1 \
        --checkpoint.interval_steps=10 --checkpoint.keep_last=2 --device.threads=1 --chat.at_end=never \
        --distributed.timeout_seconds="${timeout_seconds:-60}"
}

# same_training A B: the losses of every step and the parameters at the end are equal, bit for bit.
same_training() {
    cmp <(losses "$1") <(losses "$2") && cmp "$folder/$1/model/model.safetensors" "$folder/$2/model/model.safetensors"
}
losses() { sed -n 's/.*"step":\([0-9]*\).*"train_loss":\([^,}]*\).*/\1 \2/p;t' "$folder/$1/metrics.jsonl" | sort -n; }

latest_step() {
    find "$folder/$1/checkpoints" -name 'step-*.h5' | sed 's/.*step-0*\([0-9]\)/\1/; s/\.h5//' | sort -n | tail -n 1
}
