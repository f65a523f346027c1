#!/usr/bin/env bash
# Kills training (SIGKILL) at random moments, again and again, and compares the last parameters with an unbroken run's.
# usage: kill_loop.sh DUOLOGUE DUOLOGUE_PREPROCESS [KILLS] [RANKS]
set -euo pipefail

duologue=$1
preprocess=$2
kills=${3:-20}
ranks=${4:-2}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/broken.log

fail() {
    printf 'kill_loop.sh: %s\n' "$*" >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

"$preprocess" demo --output "$folder/demo.jsonl" --conversations 300 --seed 1 >/dev/null 2>&1
"$preprocess" "$folder/demo.jsonl" --output "$folder/data" >/dev/null 2>&1

# Kills are counted in steps, not in seconds: however busy the machine, some 20 steps pass between two, and all kills come
# before the end.
options=(--data.path="$folder/data" --data.micro_batch_tokens=512 --model.width=32 --model.heads=2 --model.hidden=64
    --model.encoder_layers=1 --model.decoder_layers=1 --train.steps="$((31 * (kills + 1)))" --train.warmup_steps=50
    --train.learning_rate=0.003 --train.micro_batches_per_step="$((2 * ranks))" --train.validation_interval_steps=40
    --train.log_interval_steps=1 --checkpoint.interval_steps=10 --checkpoint.keep_last=2 --device.threads=1
    --chat.at_end=never)
train() { exec mpirun -n "$ranks" --bind-to none "$duologue" train "${options[@]}" --output.path="$folder/$1"; }

# within SECONDS COMMAND...: whether the command has succeeded by then.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.02
    done
}
ended() { ! kill -0 "$job" 2>/dev/null; }
has_trained() { ended || [ "$(grep -c ' step=.* train_loss=' "$log")" -ge "$1" ]; }
nobody_left() { ! pgrep -f "output.path=$folder/broken" >/dev/null; }

# One of the ranks or mpirun itself, by lot.
kill_one() {
    local victims
    mapfile -t victims < <(pgrep -P "$job" || true)
    victims+=("$job")
    kill -KILL "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null || true
}

(train unbroken) >"$folder/unbroken.log" 2>&1 || fail "the unbroken run failed"
echo "the unbroken run took $SECONDS s"

RANDOM=1
for ((killed = 0; killed < kills; ++killed)); do
    : >"$log"
    (train broken) >>"$log" 2>&1 &
    job=$!
    # Some are killed while they begin, most between two steps, in one, or in saving one.
    within 120 has_trained $((RANDOM % 30)) || fail "no training in 120 s"
    sleep "0.0$((RANDOM % 10))"
    ended && fail "the run ended before kill $((killed + 1)) of $kills"
    kill_one
    wait "$job" 2>/dev/null && fail "a killed run ended with 0"
    within 60 nobody_left || fail "a rank has outlived its job by 60 s"
done
echo "killed $killed times in $SECONDS s"
(train broken) >"$log" 2>&1 || fail "the last part failed"
grep -q 'going on from' "$log" || fail "the last part did not go on from a checkpoint"

[ -z "$(find "$folder/broken/checkpoints" -name '*.part')" ] || fail "a temporary file is left"
cmp "$folder/unbroken/model/model.safetensors" "$folder/broken/model/model.safetensors"
echo "the parameters are equal, bit for bit"
