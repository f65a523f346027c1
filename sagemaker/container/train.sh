#!/usr/bin/env bash
# One rank under SageMaker: the toolkit's environment and hyperparameters become the trainer's options. mpirun starts it.
set -euo pipefail

home=${DUOLOGUE_HOME:-/opt/trainer}
scratch=/tmp/duologue # trainer_sm.py's: shards that it made of raw conversations; the transcript that it delivers

# Standard output, and a Python error's name: only then does the toolkit take a line for the reason of a failure.
fail() {
    printf 'RuntimeError: %s\n' "$*"
    exit 2
}

config_file() {
    local file
    for file in "$home/configs/$1.json" "$home/configs/$1" "$1"; do
        [ ! -f "$file" ] || { echo "$file" && return; }
    done
    fail "hyperparameter config = '$1': neither a file nor one of: $(cd "$home/configs" && echo *.json)"
}

# The toolkit writes JSON's true and false as Python does.
value_of() {
    case $1 in
        True) echo true ;;
        False) echo false ;;
        *) echo "$1" ;;
    esac
}

# The first channel with a prompts.txt, in the order of the channels' names; else the image's own prompts.
prompts_file() {
    local channel
    for channel in "${!SM_CHANNEL_@}"; do
        [ ! -f "${!channel}/prompts.txt" ] || { echo "${!channel}/prompts.txt" && return; }
    done
    echo "$home/prompts.txt"
}

# The toolkit sets these for old versions of NCCL and its plugin; today's choose better (README, "Multi-node").
if [ "${DUOLOGUE_KEEP_TOOLKIT_NCCL:-no}" != yes ]; then
    unset NCCL_PROTO NCCL_MIN_NRINGS FI_PROVIDER FI_EFA_USE_DEVICE_RDMA
fi
export HDF5_USE_FILE_LOCKING=FALSE # FastFile channels are read-only

config=base
options=()
while [ $# -gt 0 ]; do
    name=${1#--}
    value=$(value_of "${2-}")
    shift "$(($# < 2 ? $# : 2))"
    key=${name/__/.}
    case $key in
        config) config=$value ;;
        preprocess.*) ;; # trainer_sm.py has used it
        data.path | output.path | train.stop_file) fail "hyperparameter $name: the container sets $key itself" ;;
        *.*) options+=("--$key=$value") ;;
        *) fail "hyperparameter $name: options are named section.key or section__key, for example train.epochs;" \
            "beside them there is only 'config'" ;;
    esac
done

[ -n "${SM_CHANNEL_TRAINING:-}" ] || fail "there is no channel named 'training'"
data=$SM_CHANNEL_TRAINING
[ -f "$data/manifest.json" ] || data=$scratch/shards
config=$(config_file "$config") || { echo "$config" && exit 2; }

# Errors get their Python name. The filters outlive an abort's SIGTERM, so that the last words are not lost.
exec 3>&1
name_errors() {
    trap '' TERM INT
    exec sed -u 's/^\(\[rank [0-9]*\] \)\{0,1\}error: /RuntimeError: \1/' >&3
}
# What rank 0 says on standard output is its conversation.
keep_transcript() {
    trap '' TERM INT
    exec tee "$scratch/transcript.txt" >&3
}
mkdir -p "$scratch"
[ "${OMPI_COMM_WORLD_RANK:-0}" != 0 ] || exec > >(keep_transcript)
exec "$home/bin/duologue" train --config "$config" --data.path="$data" --output.path=/opt/ml/checkpoints \
    --train.stop_file="${DUOLOGUE_STOP_FILE:-/tmp/duologue.stop}" --chat.prompts="$(prompts_file)" \
    "${options[@]}" 2> >(name_errors)
