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
"$preprocess" demo --output "$folder/demo.jsonl" --conversations 300 --seed 1 >/dev/null 2>&1
"$preprocess" "$folder/demo.jsonl" --output "$folder/data" >/dev/null 2>&1

options=(--data.path="$folder/data" --data.micro_batch_tokens=512 --model.width=32 --model.heads=2 --model.hidden=64
    --model.encoder_layers=1 --model.decoder_layers=1 --train.steps=500 --train.warmup_steps=50
    --train.learning_rate=0.003 --train.micro_batches_per_step="$((2 * ranks))" --train.validation_interval_steps=40
    --checkpoint.interval_steps=10 --checkpoint.keep_last=2 --device.threads=1 --chat.at_end=never)
train() { exec mpirun -n "$ranks" --bind-to none "$duologue" train "${options[@]}" --output.path="$folder/$1"; }

# One of the ranks or mpirun itself, by lot.
kill_one() {
    local victims
    mapfile -t victims < <(pgrep -P "$1" || true)
    victims+=("$1")
    kill -KILL "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null || true
}

begin=$(date +%s%N)
(train unbroken) >"$folder/unbroken.log" 2>&1 || { cat "$folder/unbroken.log" >&2; exit 1; }
milliseconds=$((($(date +%s%N) - begin) / 1000000))
echo "the unbroken run took $milliseconds ms"

killed=0
RANDOM=1
while [ "$killed" -lt "$kills" ]; do
    (train broken) >>"$folder/broken.log" 2>&1 &
    job=$!
    wait_for=$((300 + RANDOM % (milliseconds / 6 + 1)))
    sleep "$(printf '%d.%03d' $((wait_for / 1000)) $((wait_for % 1000)))"
    if kill -0 "$job" 2>/dev/null; then
        kill_one "$job"
        killed=$((killed + 1))
    fi
    wait "$job" 2>/dev/null && break # it came to its end between two kills
    while pgrep -f "output.path=$folder/broken" >/dev/null; do sleep 0.1; done
done
echo "killed $killed times"
[ "$killed" -eq "$kills" ] || { echo "the run ended before $kills kills; give it more steps" >&2; exit 1; }
(train broken) >>"$folder/broken.log" 2>&1 || { tail -n 20 "$folder/broken.log" >&2; exit 1; }

[ -z "$(find "$folder/broken/checkpoints" -name '*.part')" ] || { echo "a temporary file is left" >&2; exit 1; }
cmp "$folder/unbroken/model/model.safetensors" "$folder/broken/model/model.safetensors"
echo "the parameters are equal, bit for bit"
