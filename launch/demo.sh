#!/usr/bin/env bash
# From nothing to a conversation: installs, builds, writes a demo corpus, preprocesses it, trains on the CPU, chats.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/demo.sh [--fresh] [--output DIR] [--section.key=value ...]
  --output DIR   where corpus, shards, checkpoints and model go (default: output/demo)
  --fresh        begin again: removes what an earlier run left in DIR
  --section.key=value   goes to `duologue train`, for example --train.steps=2000
A run that was interrupted goes on from its newest checkpoint; a finished one goes right to the chat.
TEXT
}

output=output/demo
fresh=no
overrides=()
while [ $# -gt 0 ]; do
    case $1 in
        --fresh) fresh=yes ;;
        --output) [[ ${2:-} =~ ^[^-] ]] && output=$2 && shift || wrong "--output needs a folder" ;;
        -h | --help) usage && exit 0 ;;
        --output.path=* | --data.path=* | --chat.at_end=*) wrong "the demo sets ${1%%=*} itself; --output DIR says where" ;;
        --*.*=*) overrides+=("$1") ;;
        *) usage >&2 && wrong "'$1' is none of these" ;;
    esac
    shift
done

launch/install_deps.sh
say "building"
launch/build.sh cpu duologue duologue-preprocess
bin=$(build_folder cpu)/bin

# Only what the demo itself writes is removed: DIR may hold other things.
[ "$fresh" = no ] || rm -rf "$output"/{corpus.jsonl,shards,run}
mkdir -p "$output"

if [ ! -f "$output/shards/manifest.json" ]; then
    say "writing and preprocessing the demo corpus"
    "$bin/duologue-preprocess" demo --output "$output/corpus.jsonl" --conversations 20000 --seed 1
    "$bin/duologue-preprocess" "$output/corpus.jsonl" --output "$output/shards"
fi

say "training on the CPU with 2 ranks (an interrupted run goes on from its newest checkpoint)"
stopped=no
trap 'stopped=yes' INT # the ranks get it too, save, and end in order
# The chat is opened below and not by the trainer, because a terminal behind mpirun cannot edit lines.
launch/ranks.sh -n 2 --bind-to none "$bin/duologue" train --device.kind=cpu --config configs/demo.json --data.path="$output/shards" \
    --output.path="$output/run" --chat.at_end=never "${overrides[@]}"
trap - INT
[ "$stopped" = no ] || {
    say "stopped; the same command goes on from there"
    exit 0
}

say "chat"
if [ -t 0 ] && [ -t 1 ]; then
    exec "$bin/duologue" chat "$output/run/model"
fi
echo "No terminal here: these lines are asked instead."
"$bin/duologue" chat "$output/run/model" --temperature 0 <launch/demo_prompts.txt
